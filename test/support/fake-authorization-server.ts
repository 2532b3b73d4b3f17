// A small model of an authorization server, as a `fetch` function: discovery, code grant with PKCE,
// refresh with rotation and reuse detection, revocation.
import { createHash, randomUUID } from 'node:crypto'
import { checkProof, type Proof, ProofError } from '../../demo/dpop-proof.mjs'
import type { AuthorizationServerMetadata } from '../../sw/server/metadata.js'

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A well-formed JWT. Its signature says nothing: the worker gets it from the server itself. */
export const jwt = (claims: object, header: object = { alg: 'RS256', typ: 'JWT' }): string =>
  `${base64url(header)}.${base64url(claims)}.${Buffer.from('signature').toString('base64url')}`

export const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', ...headers },
  })

/** One request as the server saw it. */
export interface SeenRequest {
  url: string
  init: RequestInit
  params: URLSearchParams
}

export interface FakeServerOptions {
  issuer?: string
  now?: () => number
  /** s */
  expiresIn?: unknown
  /** False: a refresh brings no new refresh token. */
  rotate?: boolean
  /** The last refresh token is taken a second time, with a new answer. */
  grace?: boolean
  /** Claims of ID tokens beside the necessary ones; undefined leaves one out. */
  claims?: Record<string, unknown>
  header?: object
  /** Makes ID tokens; by default their signature says nothing. */
  sign?: (claims: object, header?: object) => string
  /** What is published at `jwks_uri`. */
  keys?: () => Response | Promise<Response>
  /** More for the metadata. */
  metadata?: Partial<AuthorizationServerMetadata>
  /** More for each answer of the token endpoint. */
  tokens?: Record<string, unknown>
  /** Tokens are bound to keys (RFC 9449); `nonce` is demanded in each proof. */
  dpop?: { nonce?: string }
}

interface Grant {
  refreshToken?: string
  clientId: string
  subject: string
  /** The key that the refresh token is bound to. */
  jkt?: string
}

export const createFakeAuthorizationServer = (options: FakeServerOptions = {}) => {
  const { issuer = 'https://login.example', now = Date.now } = options
  const metadata: AuthorizationServerMetadata = {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    revocation_endpoint: `${issuer}/revoke`,
    end_session_endpoint: `${issuer}/logout`,
    jwks_uri: `${issuer}/jwks`,
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    ...options.metadata,
  }
  const codes = new Map<string, { asked: URLSearchParams; subject: string }>()
  const pushed = new Map<string, URLSearchParams>()
  let current: Grant | undefined
  let replaced: string | undefined
  let count = 0

  const server = {
    issuer,
    metadata,
    /** Change it between requests. */
    options,
    requests: [] as SeenRequest[],
    /** The next answers of the token endpoint, instead of its own. */
    answers: [] as ((request: SeenRequest) => Response | Promise<Response>)[],
    /** Everything secret that the server has issued or seen. */
    secrets: [] as string[],
    revoked: [] as string[],
    /** The DPoP proofs that were good. */
    proofs: [] as Proof[],

    tokenRequests: () => server.requests.filter(({ url }) => url === metadata.token_endpoint),

    idToken: (clientId: string, subject: string, more: object = {}) => {
      const iat = Math.floor(now() / 1000)
      return (options.sign ?? jwt)(
        {
          iss: issuer,
          sub: subject,
          aud: clientId,
          iat,
          exp: iat + 600,
          ...options.claims,
          ...more,
        },
        options.header,
      )
    },

    /** What a token endpoint answers; `more` overrides. */
    issue: (clientId: string, subject: string, more: object = {}) => {
      const n = ++count
      const answer = {
        access_token: `access-token-${n}-${randomUUID()}`,
        token_type: 'Bearer',
        expires_in: 'expiresIn' in options ? options.expiresIn : 3600,
        refresh_token: `refresh-token-${n}-${randomUUID()}`,
        id_token: server.idToken(clientId, subject, {}),
        ...options.tokens,
        ...more,
      }
      for (const value of [answer.access_token, answer.refresh_token, answer.id_token]) {
        if (typeof value === 'string') server.secrets.push(value)
      }
      current = { refreshToken: answer.refresh_token, clientId, subject }
      return answer
    },

    /** What the user's browser is sent back to, after signing in as `subject`. */
    authorize: (url: string, subject = 'alice'): URL => {
      const sent = new URL(url).searchParams
      const asked = pushed.get(sent.get('request_uri') ?? '') ?? sent
      const code = `code-${randomUUID()}`
      server.secrets.push(code, asked.get('state') ?? '', asked.get('nonce') ?? '')
      codes.set(code, { asked, subject })
      const back = new URL(asked.get('redirect_uri') ?? '')
      back.searchParams.set('code', code)
      back.searchParams.set('state', asked.get('state') ?? '')
      if (metadata.authorization_response_iss_parameter_supported) {
        back.searchParams.set('iss', issuer)
      }
      return back
    },

    /** The answer to a pushed authorization request (RFC 9126 2.2). */
    push: (params: URLSearchParams): Response => {
      const uri = `urn:ietf:params:oauth:request_uri:${randomUUID()}`
      pushed.set(uri, params)
      return json({ request_uri: uri, expires_in: 60 }, 201)
    },

    /** The refresh token that the server takes now. */
    refreshToken: () => current?.refreshToken,
    /** Lets the server forget the session, or know this one. */
    setGrant: (grant: typeof current) => {
      current = grant
    },

    /** Checks the proof of a request (RFC 9449 5): a new one each time. */
    prove: ({ url, init }: SeenRequest): Proof => {
      const header = new Headers(init.headers).get('dpop') ?? undefined
      const nonce = options.dpop?.nonce
      const method = init.method ?? 'GET'
      const proof = checkProof(header, { method, url, nonce, now: now() })
      if (server.proofs.some(({ jti }) => jti === proof.jti)) {
        throw new ProofError('invalid_dpop_proof', 'It was used before')
      }
      server.proofs.push(proof)
      return proof
    },

    fetch: async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
      const url = String(input instanceof Request ? input.url : input)
      const params = new URLSearchParams(String(init.body ?? ''))
      const request = { url, init, params }
      server.requests.push(request)
      if (url.includes('/.well-known/')) return json(metadata)
      if (url === metadata.jwks_uri && options.keys) return await options.keys()
      if (url === metadata.pushed_authorization_request_endpoint) return server.push(params)
      if (url === metadata.revocation_endpoint) {
        server.revoked.push(params.get('token') ?? '')
        return new Response(null, { status: 200 })
      }
      if (url !== metadata.token_endpoint) return new Response('', { status: 404 })
      const answer = server.answers.shift()
      if (answer) return await answer(request)
      return server.grant(request)
    },

    /** The token endpoint's own answer. */
    grant: (request: SeenRequest): Response => {
      if (!options.dpop) return server.grantTo(request)
      const nonce = options.dpop.nonce
      const headers: Record<string, string> = nonce === undefined ? {} : { 'dpop-nonce': nonce }
      try {
        return server.grantTo(request, server.prove(request).jkt, headers)
      } catch (error) {
        if (!(error instanceof ProofError)) throw error
        return json({ error: error.code, error_description: error.message }, 400, headers)
      }
    },

    grantTo: ({ params }: SeenRequest, jkt?: string, headers?: Record<string, string>) => {
      const type = jkt === undefined ? {} : { token_type: 'DPoP' }
      if (params.get('grant_type') === 'authorization_code') {
        const code = params.get('code') ?? ''
        const found = codes.get(code)
        codes.delete(code)
        const verifier = params.get('code_verifier') ?? ''
        server.secrets.push(verifier)
        const challenge = createHash('sha256').update(verifier).digest('base64url')
        if (!found || challenge !== found.asked.get('code_challenge')) {
          return json({ error: 'invalid_grant' }, 400)
        }
        const clientId = params.get('client_id') ?? ''
        const nonce = found.asked.get('nonce') ?? undefined
        const idToken = server.idToken(clientId, found.subject, { nonce, ...options.claims })
        const bound = found.asked.get('dpop_jkt') ?? jkt
        if (bound !== jkt) return json({ error: 'invalid_grant' }, 400, headers)
        const more = { id_token: idToken, ...type, ...options.tokens }
        const answer = server.issue(clientId, found.subject, more)
        if (current) current.jkt = jkt
        return json(answer, 200, headers)
      }
      const sent = params.get('refresh_token') ?? ''
      const isTaken = sent === current?.refreshToken || (options.grace && sent === replaced)
      if (isTaken && current?.jkt !== jkt) return json({ error: 'invalid_grant' }, 400, headers)
      if (!current || !isTaken) {
        // Reuse detection: the whole grant is gone.
        current = undefined
        return json({ error: 'invalid_grant' }, 400, headers)
      }
      const { clientId, subject, refreshToken } = current
      const answer = server.issue(clientId, subject, type)
      replaced = sent
      if (current) current.jkt = jkt
      if (options.rotate !== false) return json(answer, 200, headers)
      current = { clientId, subject, refreshToken, jkt }
      return json({ ...answer, refresh_token: undefined }, 200, headers)
    },
  }
  return server
}

export type FakeAuthorizationServer = ReturnType<typeof createFakeAuthorizationServer>
