// What an authorization server can do wrong, or do on purpose, each as a named variant with what
// tokenward has to make of it. The tables are for the fake server, in the unit tests and, over
// http, in a real browser.
import { createHash } from 'node:crypto'
import {
  type FakeAuthorizationServer,
  json,
  jwt,
  type SeenRequest,
} from './fake-authorization-server.js'

type Claims = Record<string, unknown>

/** What a hostile ID token is made from. */
export interface Right {
  clientId: string
  accessToken: string
  /** Of the authorization request; a refresh has none. */
  code?: string
  nonce?: string
}

/** How a sign-in ends: signed in, or the code of the error that the app is told. */
export type SignInEnd = 'signed in' | string

/**
 * How a refresh ends. `renewed`: new token, new claims. `problem`: new token, old claims, and the
 * app is told. `kept`: no new token, but session and refresh token stay. `ended`: signed out.
 */
export type RefreshEnd = 'renewed' | 'problem' | 'kept' | 'ended'

export interface IdTokenVariant {
  title: string
  /** The claims instead of the right ones; text is taken as the JSON itself. */
  claims?: (right: Right, claims: Claims) => Claims | string
  header?: object
  /** The token itself, whatever it is. */
  token?: (jwt: string) => unknown
  signIn: SignInEnd
  refresh: RefreshEnd
}

export const halfHash = (value: string, hash = 'sha256'): string => {
  const bytes = createHash(hash).update(value).digest()
  return bytes.subarray(0, bytes.length / 2).toString('base64url')
}

const hour = 3600
const more = (claims: Claims) => (_: Right, right: Claims) => ({ ...right, ...claims })
const refused = { signIn: 'invalid_id_token', refresh: 'problem' } as const
const ending = { signIn: 'invalid_id_token', refresh: 'ended' } as const
const harmless = { signIn: 'signed in', refresh: 'renewed' } as const
const base64url = (text: string) => Buffer.from(text).toString('base64url')
const deep = `${'['.repeat(60_000)}${']'.repeat(60_000)}`

/** Whose ID token is it? RF-12: at a refresh, only another iss, sub or aud ends the session. */
export const idTokenVariants: readonly IdTokenVariant[] = [
  // iss
  { title: 'of another iss', claims: more({ iss: 'https://evil.example' }), ...ending },
  {
    title: 'of our iss and a slash',
    claims: (_, claims) => ({ ...claims, iss: `${claims['iss']}/` }),
    ...ending,
  },
  { title: 'without iss', claims: more({ iss: undefined }), ...refused },
  { title: 'with a list of iss', claims: (_, c) => ({ ...c, iss: [c['iss']] }), ...ending },
  // aud, azp
  { title: 'for another aud', claims: more({ aud: 'other' }), ...ending },
  { title: 'for a list of other aud', claims: more({ aud: ['other', 'another'] }), ...ending },
  { title: 'for no aud', claims: more({ aud: undefined }), ...refused },
  { title: 'for an empty list of aud', claims: more({ aud: [] }), ...ending },
  {
    title: 'for an aud beside ours that nobody knows, without azp',
    claims: ({ clientId }, claims) => ({ ...claims, aud: [clientId, 'other'] }),
    ...refused,
  },
  {
    title: 'for several aud and another azp',
    claims: ({ clientId }, claims) => ({ ...claims, aud: [clientId, 'other'], azp: 'other' }),
    ...refused,
  },
  { title: 'with another azp', claims: more({ azp: 'other' }), ...refused },
  { title: 'with an empty azp', claims: more({ azp: '' }), ...refused },
  {
    title: 'for several aud, and our azp',
    claims: ({ clientId }, claims) => ({ ...claims, aud: ['other', clientId], azp: clientId }),
    ...harmless,
  },
  // nonce; a refresh has none to compare
  {
    title: 'without the nonce',
    claims: more({ nonce: undefined }),
    ...refused,
    refresh: 'renewed',
  },
  { title: 'with another nonce', claims: more({ nonce: 'x' }), ...refused, refresh: 'renewed' },
  {
    title: 'with two nonces, ours first',
    claims: (_, claims) => `${JSON.stringify(claims).slice(0, -1)},"nonce":"x"}`,
    ...refused,
    refresh: 'renewed',
  },
  {
    // The signature is over all of it, so whoever made it knew ours.
    title: 'with two nonces, ours last',
    claims: (_, claims) => `{"nonce":"x",${JSON.stringify(claims).slice(1)}`,
    ...harmless,
  },
  // Times
  { title: 'that has expired', claims: more({ exp: 1_000_000_000 }), ...refused },
  { title: 'without exp', claims: more({ exp: undefined }), ...refused },
  { title: 'with an exp that is text', claims: more({ exp: '9999999999' }), ...refused },
  { title: 'without iat', claims: more({ iat: undefined }), ...refused },
  { title: 'with an iat that is text', claims: more({ iat: '1' }), ...refused },
  {
    title: 'from tomorrow',
    claims: (_, claims) => ({ ...claims, iat: (claims['iat'] as number) + 25 * hour }),
    signIn: 'clock',
    refresh: 'problem',
  },
  {
    title: 'from yesterday',
    claims: (_, claims) => ({ ...claims, iat: (claims['iat'] as number) - 25 * hour }),
    signIn: 'clock',
    refresh: 'renewed',
  },
  {
    title: 'with an iat beyond all numbers',
    claims: (_, claims) => JSON.stringify({ ...claims, iat: 0 }).replace('"iat":0', '"iat":1e999'),
    signIn: 'clock',
    refresh: 'renewed',
  },
  { title: 'with an nbf in the future', claims: more({ nbf: 9_999_999_999 }), ...refused },
  { title: 'with an auth_time that is text', claims: more({ auth_time: 'now' }), ...refused },
  // sub
  { title: 'without sub', claims: more({ sub: undefined }), ...refused },
  { title: 'with an empty sub', claims: more({ sub: '' }), ...ending },
  { title: 'with a sub that is a number', claims: more({ sub: 5 }), ...ending },
  {
    title: 'of another user',
    claims: more({ sub: 'mallory' }),
    signIn: 'signed in',
    refresh: 'ended',
  },
  // Header
  { title: 'with alg none', header: { alg: 'none' }, ...refused },
  {
    title: 'with alg none and no signature',
    header: { alg: 'none' },
    token: (jwt) => jwt.replace(/[^.]+$/, ''),
    ...refused,
  },
  { title: 'with alg None', header: { alg: 'None' }, ...refused },
  { title: 'with alg HS256', header: { alg: 'HS256' }, ...refused },
  { title: 'with an alg that the server does not list', header: { alg: 'ES256' }, ...refused },
  { title: 'without alg', header: {}, ...refused },
  { title: 'with a header that is a list', header: ['RS256'], ...refused },
  {
    title: 'with crit',
    header: { alg: 'RS256', crit: ['exp'], exp: 1 },
    ...refused,
  },
  // Hashes
  {
    title: 'with the at_hash of another token',
    claims: more({ at_hash: halfHash('x') }),
    ...refused,
  },
  { title: 'with an at_hash that is a number', claims: more({ at_hash: 5 }), ...refused },
  {
    title: 'with the right at_hash',
    claims: ({ accessToken }, claims) => ({ ...claims, at_hash: halfHash(accessToken) }),
    ...harmless,
  },
  {
    title: 'with the c_hash of another code',
    claims: more({ c_hash: halfHash('x') }),
    signIn: 'invalid_id_token',
    refresh: 'renewed',
  },
  {
    title: 'with the right c_hash',
    claims: ({ code }, claims) => ({ ...claims, c_hash: code && halfHash(code) }),
    ...harmless,
  },
  // No JWT, or a strange one
  { title: 'that is encrypted', token: () => 'a.b.c.d.e', ...refused },
  { title: 'that is no JWT', token: () => 'x', ...refused },
  { title: 'whose claims are a list', claims: () => '[]', ...refused },
  { title: 'whose claims are null', claims: () => 'null', ...refused },
  { title: 'whose claims are cut off', claims: () => '{"iss":', ...refused },
  {
    title: 'that is nested 60 000 deep',
    claims: (_, claims) => `${JSON.stringify(claims).slice(0, -1)},"x":${deep}}`,
    ...refused,
  },
  {
    title: 'with a __proto__',
    claims: (_, c) =>
      `${JSON.stringify(c).slice(0, -1)},"__proto__":{"polluted":true,"sub":"eve"}}`,
    ...harmless,
  },
  // Its place in the answer
  { title: 'that is not there', token: () => undefined, ...refused, refresh: 'renewed' },
  { title: 'that is empty', token: () => '', ...refused, refresh: 'renewed' },
  { title: 'that is a number', token: () => 5, ...refused, refresh: 'renewed' },
]

export interface AnswerVariant {
  title: string
  /** What the token endpoint sends instead of `right`. */
  answer: (right: Claims, request: SeenRequest) => Response
  signIn: SignInEnd
  refresh: RefreshEnd
}

const raw = (body: BodyInit | null, type = 'application/json', status = 200) =>
  new Response(body, { status, headers: { 'content-type': type } })
const change = (tokens: Claims) => (right: Claims) => json({ ...right, ...tokens })
const unusable = { signIn: 'invalid_token_response', refresh: 'kept' } as const

/** What comes from the token endpoint (TK-03, TK-04, TK-05, TK-11, RF-06, RF-07). */
export const answerVariants: readonly AnswerVariant[] = [
  {
    title: 'a redirect to another host (TK-01)',
    answer: () =>
      new Response(null, { status: 307, headers: { location: 'https://evil.example/' } }),
    signIn: 'token_endpoint_unreachable',
    refresh: 'kept',
  },
  {
    title: 'HTML (TK-04)',
    answer: () => raw('<html>Sign in to the Wi-Fi', 'text/html'),
    ...unusable,
  },
  {
    title: 'tokens that are called HTML (TK-03)',
    answer: (r) => raw(JSON.stringify(r), 'text/html'),
    ...unusable,
  },
  {
    title: 'tokens that are called nothing (TK-03)',
    answer: (r) => raw(JSON.stringify(r), ''),
    ...unusable,
  },
  { title: 'nothing, 204 (TK-04)', answer: () => new Response(null, { status: 204 }), ...unusable },
  { title: 'an empty body (TK-04)', answer: () => raw(''), ...unusable },
  { title: 'tokens with status 201 (TK-03)', answer: (r) => json(r, 201), ...unusable },
  { title: 'broken JSON (TK-04)', answer: () => raw('{"access_token":"a","token_ty'), ...unusable },
  { title: 'a list (TK-03)', answer: (right) => json([right]), ...unusable },
  { title: 'null (TK-03)', answer: () => json(null), ...unusable },
  { title: 'text (TK-03)', answer: () => json('tokens'), ...unusable },
  {
    title: '2 MB (TK-03)',
    answer: (right) => json({ ...right, x: 'x'.repeat(2_000_000) }),
    ...unusable,
  },
  {
    title: 'JSON nested 100 000 deep (TK-03)',
    answer: () => raw(`${'['.repeat(1e5)}${']'.repeat(1e5)}`),
    ...unusable,
  },
  { title: 'no access token (TK-03)', answer: change({ access_token: undefined }), ...unusable },
  { title: 'an empty access token (TK-03)', answer: change({ access_token: '' }), ...unusable },
  {
    title: 'an access token that is a number (TK-03)',
    answer: change({ access_token: 5 }),
    ...unusable,
  },
  {
    title: 'a list of access tokens (TK-03)',
    answer: change({ access_token: ['a'] }),
    ...unusable,
  },
  {
    title: 'an access token that breaks a header (TK-03)',
    answer: change({ access_token: 'a\r\nx: y' }),
    ...unusable,
  },
  {
    title: 'an access token in Unicode (TK-03)',
    answer: change({ access_token: 'tökén' }),
    ...unusable,
  },
  { title: 'no token type (TK-03)', answer: change({ token_type: undefined }), ...unusable },
  { title: 'another token type (TK-03)', answer: change({ token_type: 'mac' }), ...unusable },
  {
    title: 'a token that is bound to a key we have not (TK-03)',
    answer: change({ token_type: 'DPoP' }),
    ...unusable,
  },
  {
    title: 'tokens that are inherited (TK-03)',
    answer: (right) => raw(`{"__proto__":${JSON.stringify(right)}}`),
    ...unusable,
  },
  {
    title: 'tokens, and a __proto__ (TK-03)',
    answer: (right) => raw(`{"__proto__":{"polluted":true},${JSON.stringify(right).slice(1)}`),
    ...harmless,
  },
  {
    title: 'two access tokens (TK-03)',
    answer: (right) => raw(`{"access_token":"first",${JSON.stringify(right).slice(1)}`),
    ...harmless,
  },
  { title: 'a narrower scope (TK-11)', answer: change({ scope: 'openid' }), ...harmless },
  { title: 'no scope (TK-11)', answer: change({ scope: undefined }), ...harmless },
  { title: 'a lifetime of nonsense (TK-05)', answer: change({ expires_in: 'soon' }), ...harmless },
  {
    title: 'a token type in capitals (TK-03)',
    answer: change({ token_type: 'BEARER' }),
    ...harmless,
  },
  {
    title: 'the error of somebody else (ER-02)',
    answer: () => json({ error: '<b>' }, 400),
    signIn: 'server_error',
    refresh: 'kept',
  },
  { title: 'a server error (RF-06)', answer: () => raw('down', 'text/plain', 500), ...unusable },
]

export interface MetadataVariant {
  title: string
  answer: (right: Claims) => Response
  /** The code of the error that `login()` ends with. */
  code: string
}

const wrong = { code: 'invalid_configuration' } as const
const nothing = { code: 'metadata_unreachable' } as const

/** What comes instead of the metadata (TK-14, AR-03). */
export const metadataVariants: readonly MetadataVariant[] = [
  {
    title: 'of another issuer (TK-14)',
    answer: change({ issuer: 'https://evil.example' }),
    ...wrong,
  },
  { title: 'without issuer (TK-14)', answer: change({ issuer: undefined }), ...wrong },
  {
    title: 'of our issuer and a slash (TK-14)',
    answer: (right) => json({ ...right, issuer: `${right['issuer']}/` }),
    ...wrong,
  },
  ...['authorization_endpoint', 'token_endpoint', 'end_session_endpoint'].map((name) => ({
    title: `whose ${name} is on http (TK-14)`,
    answer: change({ [name]: 'http://login.example/x' }),
    ...wrong,
  })),
  {
    title: 'without token endpoint (TK-14)',
    answer: change({ token_endpoint: undefined }),
    ...wrong,
  },
  {
    title: 'whose authorization endpoint is a script',
    answer: change({ authorization_endpoint: 'javascript:alert(1)' }),
    ...wrong,
  },
  {
    title: 'whose token endpoint has a user',
    answer: change({ token_endpoint: 'https://me:x@login.example/token' }),
    ...wrong,
  },
  {
    title: 'whose token endpoint is inherited',
    answer: (right) => raw(`{"__proto__":${JSON.stringify(right)},"issuer":"${right['issuer']}"}`),
    ...wrong,
  },
  {
    title: 'without S256 (AR-03)',
    answer: change({ code_challenge_methods_supported: ['plain'] }),
    ...wrong,
  },
  {
    title: 'that wants a request pushed, and does not say where (AR-15)',
    answer: change({ require_pushed_authorization_requests: true }),
    ...wrong,
  },
  { title: 'that is a list', answer: (right) => json([right]), ...wrong },
  { title: 'that is null', answer: () => json(null), ...nothing },
  { title: 'that is HTML', answer: () => raw('<html>', 'text/html'), ...nothing },
  {
    title: 'that is 2 MB',
    answer: (right) => json({ ...right, x: 'x'.repeat(2_000_000) }),
    ...nothing,
  },
  {
    title: 'that is elsewhere',
    answer: () =>
      new Response(null, { status: 302, headers: { location: 'https://evil.example/' } }),
    ...nothing,
  },
  { title: 'that is not found', answer: () => raw('', 'text/plain', 404), ...nothing },
]

/** Lets the next answer of the token endpoint have this ID token. */
export const sendIdToken = (
  server: FakeAuthorizationServer,
  { claims = (_, right) => right, header = { alg: 'RS256' }, token = (jwt) => jwt }: IdTokenVariant,
): void => {
  server.answers.push(async (request) => {
    const right = await server.grant(request).json()
    const known = JSON.parse(Buffer.from(right.id_token.split('.')[1], 'base64url').toString())
    const made = claims(
      {
        clientId: request.params.get('client_id') ?? '',
        accessToken: right.access_token,
        code: request.params.get('code') ?? undefined,
      },
      known,
    )
    const sent =
      typeof made === 'string'
        ? [base64url(JSON.stringify(header)), base64url(made), base64url('signature')].join('.')
        : jwt(made, header)
    return json({ ...right, id_token: token(sent) })
  })
}

/** Lets the next answer of the token endpoint be this one. */
export const sendAnswer = (server: FakeAuthorizationServer, { answer }: AnswerVariant): void => {
  server.answers.push(async (request) => answer(await server.grant(request).json(), request))
}

/** `fetch` as far as redirects go: the fake server only answers. */
export const withoutRedirects =
  (fetch: FakeAuthorizationServer['fetch']): FakeAuthorizationServer['fetch'] =>
  async (input, init) => {
    const response = await fetch(input, init)
    const isRedirect = response.status >= 300 && response.status < 400
    if (isRedirect && init?.redirect === 'error') throw new TypeError('Failed to fetch')
    return response
  }
