import * as oauth from 'oauth4webapi'
import { TokenError, type TokenErrorCode } from '../../src/shared/errors.js'
import type { Claims } from '../../src/shared/protocol.js'
import { endpointOf } from '../http/server-path.js'
import { type Config, checkMetadata } from '../options/options.js'
import type { Platform } from '../platform.js'
import type { Store, Transaction } from '../session/store.js'
import { withTimeLimit } from '../time-limit.js'
import type { Dpop, DpopKey } from './dpop.js'
import { bytesOf, parseObject, readJwt } from './jwt.js'

/** Authorization server metadata: RFC 8414, OpenID Connect Discovery 1.0. */
export type AuthorizationServerMetadata = oauth.AuthorizationServer

/** Tokens as the server issued them, with times instead of durations. */
export interface IssuedTokens {
  accessToken: string
  /** ms since 1970 */
  issuedAt: number
  /** ms since 1970; absent if the server did not say */
  expiresAt?: number
  refreshToken?: string
  scope?: string
  idToken?: string
}

/** What a sign-in brings: tokens, and what a validated ID token says. */
export interface SignIn extends IssuedTokens {
  claims: Claims
  subject?: string
}

/** How a refresh ends, told apart by what it means for the refresh token. */
export type RefreshAnswer =
  /** The server issued tokens. */
  | { kind: 'issued'; tokens: IssuedTokens }
  /** The server will never take this refresh token again. */
  | { kind: 'refused'; error: TokenError }
  /** The server wants something else than a refresh; the token may still be good. */
  | { kind: 'not-now'; error: TokenError }
  /** The client is set up wrongly; the token may still be good. */
  | { kind: 'misconfigured'; error: TokenError }
  /** The server has not acted: it said so, was not asked, or something in between answered. */
  | { kind: 'unavailable'; error: TokenError; retryAfter?: number }
  /** No answer that tells: nobody knows whether the server has acted. */
  | { kind: 'unknown'; error: TokenError; retryAfter?: number }

/** What the ID token of a refresh says about the session that it came for. */
export type RefreshedIdToken =
  | { kind: 'same'; claims: Claims }
  | { kind: 'other-user' }
  | { kind: 'unusable'; error: TokenError }

/** ms for one request and its answer. */
const requestLimit = 15_000
/** Signing out waits no longer than this for a server. ms */
const goodbyeLimit = 5_000
const mostBytes = 256 * 1024
const mostUrlCharacters = 8 * 1024
/** ms */
const metadataLife = 24 * 3_600_000
/** s */
const mostSkew = 24 * 3_600
/** s */
const longestLife = 365 * 24 * 3_600

const names = (list: string): ReadonlySet<string> => new Set(list.split(' '))

/** Codes of the authorization server that pages may meet; any other becomes `server_error`. */
const oauthCodes = names(
  'access_denied account_selection_required consent_required interaction_required ' +
    'invalid_client invalid_grant invalid_request invalid_scope invalid_target login_required ' +
    'mfa_required server_error temporarily_unavailable unauthorized_client ' +
    'unsupported_grant_type unsupported_response_type',
)

/** Answers to a refresh that a sign-in cures, although the refresh token may be good. */
const interactiveCodes = names(
  'access_denied consent_required interaction_required login_required mfa_required',
)

/** Answers to the effect that the request was not looked at (RFC 9110 15, RFC 6585). */
const notActed: ReadonlySet<number> = new Set([408, 429, 503, 511])

/** Claims that only serve the protocol; the rest is what the page may know of the user. */
const protocolClaims = names(
  '__proto__ acr amr at_hash aud auth_time azp c_hash exp iat iss jti nbf nonce s_hash sid',
)

const userClaims = (claims: object = {}): Claims =>
  // Nested too deep to be cloned, they could neither be stored nor sent: better to know it here.
  structuredClone(
    Object.fromEntries(Object.entries(claims).filter(([name]) => !protocolClaims.has(name))),
  )

/** Words of a server, made harmless: short, and without control characters. */
const quote = (words: unknown): string =>
  typeof words === 'string' ? words.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200) : ''

const oauthError = (code: string, description: unknown): TokenError =>
  new TokenError(
    oauthCodes.has(code) ? (code as TokenErrorCode) : 'server_error',
    `The authorization server answered ${quote(code)}. ${quote(description)}`,
  )

/** Without a cause: those of the protocol library contain the whole answer, tokens and all. */
const invalidAnswer = (what: string): TokenError =>
  new TokenError('invalid_token_response', `The authorization server's answer ${what}.`)

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : '')

/** Is this claim half of the hash of `value` (OpenID Connect Core 3.1.3.6)? */
const isHalfHash = async (alg: unknown, value: string, claim: unknown): Promise<boolean> => {
  // EdDSA, whose name says no length, hashes with SHA-512.
  const [, bits = '512'] = /(256|384)$/.exec(String(alg)) ?? []
  const hash = await crypto.subtle.digest(`SHA-${bits}`, new TextEncoder().encode(value))
  return String(new Uint8Array(hash, 0, hash.byteLength / 2)) === String(bytesOf(String(claim)))
}

/** `max_age` of a request, which the ID token then has to keep to. */
const maxAgeOf = ({ max_age: maxAge = '' }: Record<string, string>): number | undefined =>
  /^\d+$/.test(maxAge) ? Number(maxAge) : undefined

/** Has the request insisted on an `acr` that this is not (OpenID Connect Core 5.5.1.1)? */
const lacksAcr = ({ claims = '' }: Record<string, string>, acr: unknown): boolean => {
  const asked = parseObject(claims)?.['id_token'] as
    | { acr?: { essential?: boolean; value?: string; values?: string[] } }
    | undefined
  const { essential, value, values = value && [value] } = asked?.acr ?? {}
  return essential === true && (acr === undefined || values?.includes(String(acr)) === false)
}

/** The text of an answer, if it is not too long. */
export const readBody = async (
  response: Response,
  code: TokenErrorCode = 'invalid_token_response',
): Promise<string> => {
  const decoder = new TextDecoder()
  const reader = response.body?.getReader()
  let bytes = 0
  let text = ''
  // By hand: where a stream in between ends with an error, Chromium's text() tells another one.
  for (;;) {
    const { value } = (await reader?.read()) ?? {}
    if (!value) return text
    bytes += value.byteLength
    if (bytes > mostBytes) {
      reader?.cancel().catch(() => {})
      throw new TokenError(code, 'The answer of the server is too long.')
    }
    text += decoder.decode(value, { stream: true })
  }
}

const isJson = (response: Response): boolean =>
  /^application\/json\b/i.test(response.headers.get('content-type') ?? '')

/** `expires_in` in seconds: servers send numbers, strings, nothing and nonsense. */
const lifetime = (value: unknown): number | undefined => {
  const seconds = Number.parseFloat(String(value))
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(seconds, 1), longestLife)
}

/** `Retry-After` in ms from `now` (RFC 9110 10.2.3): seconds, or a date. */
const retryAfterOf = (response: Response, now: number): number | undefined => {
  const value = response.headers.get('retry-after') ?? ''
  // biome-ignore lint/style/noRestrictedGlobals: it reads a text here, not the clock.
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now
  return ms > 0 ? ms : undefined
}

const acceptJson = { accept: 'application/json' }

/** A form, as every endpoint of the server wants it (RFC 6749 3.2, appendix B). */
const form = (params: Record<string, string>): RequestInit => ({
  method: 'POST',
  body: new URLSearchParams(params),
})

/** Everything that is said to the authorization server. */
export const createAuthorizationServer = (
  config: Config,
  store: Pick<Store, 'read' | 'readMetadata' | 'writeMetadata' | 'readKeys' | 'writeKeys'>,
  { fetch, now, online, wait }: Pick<Platform, 'fetch' | 'now' | 'wait' | 'online'>,
  tellProblem: (error: TokenError) => Promise<unknown> = async () => {},
  dpop?: Pick<Dpop, 'fetch'>,
) => {
  const { issuer, clientId } = config
  const wantsIdToken = config.scope.split(' ').includes('openid')
  const resource: Record<string, string> = config.resource ? { resource: config.resource } : {}

  let known: AuthorizationServerMetadata | undefined
  let endpoints: string[] = []

  const endpointsOf = (metadata: AuthorizationServerMetadata): string[] => {
    const all = [metadata, metadata.mtls_endpoint_aliases ?? {}].flatMap(Object.entries)
    return all.flatMap(([name, value]) =>
      /(?<!userinfo)_endpoint$|^jwks_uri$/.test(name) && URL.canParse(value)
        ? endpointOf(new URL(value))
        : [],
    )
  }

  const remember = (metadata: AuthorizationServerMetadata) => {
    known = metadata
    endpoints = endpointsOf(metadata)
    return metadata
  }
  if (config.metadata) remember(config.metadata)

  const unreachable = (code: TokenErrorCode, url: string, cause: unknown): TokenError =>
    online()
      ? new TokenError(
          code,
          `No answer from ${url}. The server is down, or does not allow this origin (CORS), or ` +
            "the worker script's Content-Security-Policy lacks it in connect-src, or an ad " +
            'blocker stops it.',
          cause,
        )
      : new TokenError('offline', 'There is no network.', cause)

  /** Sends one request and reads its answer, all within `limit` ms; for tokens, with `dpopKey`. */
  const exchange = async <T>(
    limit: number,
    code: TokenErrorCode,
    url: string,
    init: RequestInit,
    read: (response: Response) => Promise<T>,
    tokens?: { dpopKey: DpopKey | undefined },
  ): Promise<T> => {
    const target = url.split('?')[0] as string
    const answer = await withTimeLimit(wait, limit, async (signal) => {
      const all: RequestInit = {
        mode: 'cors',
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        ...init,
        signal,
      }
      try {
        const sent = dpop && tokens ? dpop.fetch(url, all, tokens.dpopKey) : fetch(url, all)
        return { value: await read(await sent) }
      } catch (cause) {
        if (cause instanceof TokenError) throw cause
        if (
          cause instanceof oauth.OperationProcessingError ||
          cause instanceof oauth.UnsupportedOperationError
        ) {
          throw invalidAnswer(`cannot be used: ${cause.message}`)
        }
        throw unreachable(code, target, cause)
      }
    })
    if (answer) return answer.value
    throw new TokenError('timeout', `${target} took more than ${limit / 1000} s.`)
  }

  /** Gets a JSON object that the server publishes. */
  const readDocument = async (
    what: string,
    url: string,
    headers: HeadersInit = {},
  ): Promise<Record<string, unknown>> => {
    const code = 'metadata_unreachable'
    const unusable = (how: string) => new TokenError(code, `${issuer} ${how}`)
    const found = await exchange(requestLimit, code, url, { headers }, async (response) => {
      if (response.ok) return parseObject(await readBody(response, code))
      throw unusable(
        `answered ${response.status} for its ${what}. If there is none, give the option issuer ` +
          'the metadata itself.',
      )
    })
    if (!found) throw unusable(`sent ${what} that is not JSON.`)
    return found
  }

  const discover = async (): Promise<AuthorizationServerMetadata> => {
    const url = new URL(issuer)
    url.pathname = `${url.pathname}/.well-known/openid-configuration`.replace('//', '/')
    const found: unknown = await readDocument('metadata', url.href, acceptJson)
    return checkMetadata(found as AuthorizationServerMetadata, issuer, config.root)
  }

  const isAtIssuer = (url: string): boolean => new URL(url).origin === new URL(issuer).origin

  /**
   * What was stored is checked like what is discovered: pages can write to the database too. So it
   * only counts if it leads nowhere but to the issuer's own origin: no script that was in a page
   * once can send refresh tokens elsewhere. Where a server spreads over several origins, each
   * worker that needs the metadata asks for it.
   */
  const readStored = async () => {
    const stored = await store.readMetadata()
    if (!stored) return
    const metadata = checkMetadata(stored.metadata, issuer, config.root)
    return endpointsOf(metadata).every(isAtIssuer) ? { ...stored, metadata } : undefined
  }

  /** The metadata: given, remembered, stored for a day, or discovered; an old one if need be. */
  const metadata = async (): Promise<AuthorizationServerMetadata> => {
    if (known) return known
    const stored = await readStored().catch(() => undefined)
    const age = now() - (stored?.fetchedAt ?? 0)
    if (stored && age >= 0 && age < metadataLife) return remember(stored.metadata)
    try {
      const discovered = await discover()
      const { token_endpoint: endpoint } = discovered
      // Who is signed out has nothing to lose that a first visit would not lose as well.
      const isMove = stored && !isAtIssuer(endpoint as string)
      if (isMove && (await store.read())?.status === 'active') {
        throw new TokenError(
          'invalid_configuration',
          `${issuer} has moved its token endpoint to ${endpoint}, which is not used yet. Give the ` +
            'option issuer the metadata itself, or sign out.',
        )
      }
      await store.writeMetadata(discovered).catch(() => {})
      return remember(discovered)
    } catch (error) {
      if (!stored || !(error instanceof TokenError)) throw error
      if (!error.transient) await tellProblem(error)
      return remember(stored.metadata)
    }
  }

  const checkSignature = config.idTokenSignature?.createCheck({
    store,
    now,
    metadata,
    readKeySet: (url) => readDocument('keys', url),
  })

  /** Nobody checks `none`, and what is made with a secret is not for a public client (OIDC). */
  const withoutSecrets = (as: AuthorizationServerMetadata): AuthorizationServerMetadata => {
    const algorithms = as.id_token_signing_alg_values_supported
    const isSafe = (algorithm: string) => !/^(none|HS)/.test(algorithm)
    return { ...as, id_token_signing_alg_values_supported: algorithms?.filter(isSafe) }
  }

  const client = (skew = 0): oauth.Client => ({ client_id: clientId, [oauth.clockSkew]: skew })

  /** A token response as the protocol library wants it: a sane lifetime, and nothing empty. */
  const toResponse = (body: Record<string, unknown>): Response => {
    const { access_token: token } = body
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      throw invalidAnswer('has no access token that fits into a header')
    }
    const present = Object.entries(body).filter(([, value]) => value !== null && value !== '')
    return Response.json({
      ...Object.fromEntries(present),
      expires_in: lifetime(body['expires_in']),
    })
  }

  const toTokens = (answer: oauth.TokenEndpointResponse, issuedAt: number): IssuedTokens => ({
    accessToken: answer.access_token,
    issuedAt,
    expiresAt: answer.expires_in && issuedAt + answer.expires_in * 1000,
    refreshToken: answer.refresh_token,
    scope: answer.scope,
    idToken: answer.id_token,
  })

  /** Bound to a key or not, as configured: the other kind would be refused, or unprotected. */
  const assertType = ({ token_type: type }: Record<string, unknown>) => {
    const wanted = dpop ? 'DPoP' : 'Bearer'
    if (String(type).toLowerCase() !== wanted.toLowerCase()) {
      throw invalidAnswer(`has a token of type "${quote(type)}", not ${wanted}`)
    }
  }

  const tokenError = (status: number, body: Record<string, unknown> | undefined): TokenError =>
    typeof body?.['error'] === 'string'
      ? oauthError(body['error'], body['error_description'])
      : invalidAnswer(`is ${status} without an OAuth error`)

  /** How far the server's clock is ahead of ours, in s: it stamps the ID token as we get it. */
  const skewOf = (idToken: unknown): number => {
    const { iat } = readJwt(String(idToken), 1)
    return typeof iat === 'number' ? Math.floor(iat - now() / 1000) : 0
  }

  const refusedIdToken = (cause: unknown): TokenError =>
    cause instanceof TokenError
      ? cause
      : // Without the cause: that of oauth4webapi holds the whole answer.
        new TokenError('invalid_id_token', `The ID token was refused: ${messageOf(cause)}`)

  /** What oauth4webapi leaves: azp beside one aud, an empty sub, hashes, and the signature. */
  const assertIdToken = async (
    answer: oauth.TokenEndpointResponse,
    claims: oauth.IDToken,
    code?: string,
  ): Promise<void> => {
    const idToken = answer.id_token as string
    const { alg } = readJwt(idToken, 0)
    let wrong = claims.sub ? '' : 'sub'
    if ((claims.azp ?? clientId) !== clientId) wrong = 'azp'
    for (const [name, value] of Object.entries({ at_hash: answer.access_token, c_hash: code })) {
      const claim = claims[name]
      if (value && claim !== undefined && !(await isHalfHash(alg, value, claim))) wrong = name
    }
    if (wrong) throw new Error(`its ${wrong} is not the right one.`)
    await checkSignature?.(idToken)
  }

  /** Sends a form, and reads the JSON that a server answers with this status if all is well. */
  const ask = (
    status: number,
    url: string,
    params: Record<string, string>,
    tokens?: { dpopKey: DpopKey | undefined },
  ): Promise<Record<string, unknown>> => {
    const read = async (response: Response) => {
      const parsed = parseObject(await readBody(response))
      if (response.status !== status) throw tokenError(response.status, parsed)
      if (!parsed || !isJson(response)) throw invalidAnswer('is not JSON')
      return parsed
    }
    const init = { ...form(params), headers: acceptJson }
    return exchange(requestLimit, 'token_endpoint_unreachable', url, init, read, tokens)
  }

  const readRefreshAnswer = async (
    as: AuthorizationServerMetadata,
    response: Response,
    issuedAt: number,
  ): Promise<RefreshAnswer> => {
    const { status } = response
    const body = parseObject(await readBody(response))
    if (status === 200) {
      // Not from the token endpoint: a captive portal, most likely.
      if (!isJson(response)) return { kind: 'unavailable', error: invalidAnswer('is not JSON') }
      if (!body) throw invalidAnswer('is broken JSON')
      assertType(body)
      const { id_token: idToken, ...rest } = body
      const answer = await oauth.processRefreshTokenResponse(as, client(), toResponse(rest))
      const tokens = toTokens(answer, issuedAt)
      if (idToken && typeof idToken === 'string') tokens.idToken = idToken
      return { kind: 'issued', tokens }
    }
    const error = tokenError(status, body)
    const code = String(body?.['error'])
    if (status === 401 || interactiveCodes.has(code)) return { kind: 'not-now', error }
    if (code === 'invalid_grant') return { kind: 'refused', error }
    const retryAfter = retryAfterOf(response, now())
    if (notActed.has(status)) return { kind: 'unavailable', error, retryAfter }
    // A 500 can come after the token was replaced, and a 502 or 504 is somebody else's word for
    // having had no answer.
    if (status >= 500) return { kind: 'unknown', error, retryAfter }
    if (error.transient) return { kind: 'unavailable', error, retryAfter }
    return { kind: 'misconfigured', error }
  }

  return {
    /** The endpoints that never get a token (see `endpointOf`); none as long as they're unknown. */
    protocolEndpoints: (): readonly string[] => endpoints,

    /** Learns the endpoints from the metadata on the disk, however old: the server isn't asked. */
    recallEndpoints: async (): Promise<void> => {
      const stored = known ? undefined : await readStored().catch(() => undefined)
      if (stored) endpoints = endpointsOf(stored.metadata)
    },

    /** A random value of 256 bits, for `state`, tickets and the like. */
    randomValue: (): string => oauth.generateRandomState(),

    /** Secrets of one authorization request; they never leave the worker. */
    newSecrets: () => ({
      nonce: oauth.generateRandomState(),
      verifier: oauth.generateRandomState(),
      redirectUri: config.authUrls.callback,
    }),

    /**
     * The authorization request (RFC 6749 4.1.1, RFC 7636 4.3, OpenID Connect Core 3.1.2.1); where
     * the server wants it so, pushed to it beforehand (RFC 9126).
     */
    authorizationUrl: async (
      state: string,
      { nonce, verifier, redirectUri, dpopKey }: NonNullable<Transaction['sent']>,
      params: Record<string, string>,
    ): Promise<string> => {
      const as = await metadata()
      const url = new URL(as.authorization_endpoint as string)
      let all: Record<string, string> = {
        ...config.authorizationParams,
        ...params,
        ...resource,
        response_type: 'code',
        client_id: clientId,
        redirect_uri: redirectUri,
        ...(config.scope && { scope: config.scope }),
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        ...(wantsIdToken && { nonce }),
        ...(dpopKey && { dpop_jkt: dpopKey.jkt }),
      }
      if (as.require_pushed_authorization_requests) {
        const endpoint = as.pushed_authorization_request_endpoint as string
        const { request_uri: uri } = await ask(201, endpoint, all)
        if (typeof uri !== 'string') throw invalidAnswer('has no request_uri')
        all = { client_id: clientId, request_uri: uri }
      }
      for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value)
      return url.href
    },

    /**
     * Redeems the answer that arrived at the callback (RFC 6749 4.1.3, RFC 9207,
     * OpenID Connect Core 3.1.3). `asked`: the parameters of the request; `max_age` and an
     * essential `acr` among them are what the ID token has to keep to.
     *
     * @throws TokenError with the server's own code, or why its answer cannot be trusted
     */
    redeem: async (
      params: URLSearchParams,
      state: string,
      { nonce, verifier, redirectUri, dpopKey }: NonNullable<Transaction['sent']>,
      asked: Record<string, string> = {},
    ): Promise<SignIn> => {
      const as = await metadata()
      let code: string | null
      try {
        code = oauth.validateAuthResponse(as, client(), params, state).get('code')
        if (!code) throw new Error('it has no code.')
      } catch (cause) {
        throw cause instanceof oauth.AuthorizationResponseError
          ? oauthError(cause.error, cause.error_description)
          : new TokenError('invalid_callback', `The answer was refused: ${messageOf(cause)}`)
      }
      const issuedAt = now()
      const body = await ask(
        200,
        as.token_endpoint as string,
        {
          ...resource,
          grant_type: 'authorization_code',
          client_id: clientId,
          code,
          redirect_uri: redirectUri,
          code_verifier: verifier,
        },
        { dpopKey },
      )
      assertType(body)
      const skew = skewOf(body['id_token'])
      if (Math.abs(skew) > mostSkew) {
        throw new TokenError('clock', "This device's clock is more than a day off. Set it right.")
      }
      try {
        const answer = await oauth.processAuthorizationCodeResponse(
          withoutSecrets(as),
          client(skew),
          toResponse(body),
          {
            maxAge: maxAgeOf(asked),
            ...(wantsIdToken && { expectedNonce: nonce, requireIdToken: true }),
          },
        )
        const claims = oauth.getValidatedIdTokenClaims(answer)
        if (claims) await assertIdToken(answer, claims, code)
        if (lacksAcr(asked, claims?.acr)) throw new Error('its acr is not one that was asked for.')
        return { ...toTokens(answer, issuedAt), claims: userClaims(claims), subject: claims?.sub }
      } catch (cause) {
        throw refusedIdToken(cause)
      }
    },

    /** The refresh grant (RFC 6749 6). Its ID token is not judged yet: see `readIdToken`. */
    refresh: async (refreshToken: string, dpopKey?: DpopKey): Promise<RefreshAnswer> => {
      const as = await metadata().catch((error: TokenError) => error)
      if (as instanceof TokenError) return { kind: 'unavailable', error: as }
      const issuedAt = now()
      const wasOnline = online()
      return await exchange(
        requestLimit,
        'token_endpoint_unreachable',
        as.token_endpoint as string,
        {
          ...form({
            ...resource,
            grant_type: 'refresh_token',
            client_id: clientId,
            refresh_token: refreshToken,
          }),
          headers: acceptJson,
        },
        (response) => readRefreshAnswer(as, response, issuedAt),
        { dpopKey },
      ).catch((error: TokenError) => ({
        // Without a network from the start, the request has reached nobody.
        kind: wasOnline || error.code !== 'offline' ? 'unknown' : 'unavailable',
        error,
      }))
    },

    /** Judges the ID token of a refresh against the session it is for (OIDC Core 12.2). */
    readIdToken: async (
      idToken: string,
      { subject, accessToken }: { subject?: string; accessToken?: string },
    ): Promise<RefreshedIdToken> => {
      const { iss = issuer, sub = subject, aud = clientId } = readJwt(idToken, 1)
      // A claim that is missing, or cannot be read, names nobody else: that is refused below.
      const isOurs = iss === issuer && [aud].flat().includes(clientId)
      if (!isOurs || (subject ?? sub) !== sub) return { kind: 'other-user' }
      try {
        const answer = await oauth.processRefreshTokenResponse(
          withoutSecrets(await metadata()),
          client(skewOf(idToken)),
          Response.json({ access_token: accessToken, token_type: 'bearer', id_token: idToken }),
        )
        const claims = oauth.getValidatedIdTokenClaims(answer)
        if (claims) await assertIdToken(answer, claims)
        return { kind: 'same', claims: userClaims(claims) }
      } catch (cause) {
        return { kind: 'unusable', error: refusedIdToken(cause) }
      }
    },

    /** Revokes a refresh token (RFC 7009), as far as the server can and is there to do it. */
    revoke: async (refreshToken: string): Promise<void> => {
      try {
        const { revocation_endpoint: endpoint } = await metadata()
        if (!endpoint) return
        await exchange(
          goodbyeLimit,
          'token_endpoint_unreachable',
          endpoint,
          form({ token: refreshToken, token_type_hint: 'refresh_token', client_id: clientId }),
          async () => {},
        )
      } catch {
        // The session is forgotten here all the same; the token ends with its own lifetime.
      }
    },

    /** Would a navigation to the server get there? Asked without CORS: any answer will do. */
    isReachable: (): Promise<boolean> =>
      exchange(
        goodbyeLimit,
        'offline',
        issuer,
        { method: 'HEAD', mode: 'no-cors', redirect: 'follow' },
        async () => true,
      ).catch(() => false),

    /** The logout request (OpenID Connect RP-Initiated Logout 1.0, 2); none without endpoint. */
    logoutUrl: async (state: string, idToken = ''): Promise<string | undefined> => {
      const { end_session_endpoint: endpoint } = await metadata()
      const postLogoutRedirectUri = config.authUrls.logout
      if (!endpoint) return config.logoutUrl?.({ clientId, postLogoutRedirectUri })
      const url = new URL(endpoint)
      const params = url.searchParams
      params.set('client_id', clientId)
      params.set('post_logout_redirect_uri', postLogoutRedirectUri)
      params.set('state', state)
      // A server may refuse a URL that is longer; client_id says enough.
      const fits = url.href.length + idToken.length < mostUrlCharacters
      if (idToken && fits) params.set('id_token_hint', idToken)
      return url.href
    },
  }
}

export type AuthorizationServer = ReturnType<typeof createAuthorizationServer>
