import * as oauth from 'oauth4webapi'
import { TokenError, type TokenErrorCode } from '../src/shared/errors.js'
import type { Claims } from '../src/shared/protocol.js'
import { type Config, isLoopback } from './options.js'
import type { Platform } from './platform.js'
import type { Store, Transaction } from './store.js'

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
  /** The server is there but could not act, or something in between answered. */
  | { kind: 'unavailable'; error: TokenError; retryAfter?: number }
  /** No answer: nobody knows whether the server has acted. */
  | { kind: 'unknown'; error: TokenError }

/** What the ID token of a refresh says about the session that it came for. */
export type RefreshedIdToken =
  | { kind: 'same'; claims: Claims }
  | { kind: 'other-user' }
  | { kind: 'unusable'; error: TokenError }

const requestLimit = 15_000
/** Signing out waits no longer than this for a server. */
const goodbyeLimit = 5_000
const mostBytes = 256 * 1024
const mostUrlCharacters = 8 * 1024
const metadataLife = 24 * 3_600_000
const mostSkew = 24 * 3_600
const longestLife = 365 * 24 * 3_600

/** Codes of the authorization server that pages may meet; any other becomes `server_error`. */
const oauthCodes: ReadonlySet<string> = new Set<TokenErrorCode>([
  'access_denied',
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'invalid_client',
  'invalid_grant',
  'invalid_request',
  'invalid_scope',
  'invalid_target',
  'login_required',
  'mfa_required',
  'server_error',
  'temporarily_unavailable',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_response_type',
])

const transientCodes: ReadonlySet<string> = new Set(['server_error', 'temporarily_unavailable'])

/** Answers to a refresh that a sign-in cures, although the refresh token may be good. */
const interactiveCodes: ReadonlySet<string> = new Set([
  'access_denied',
  'consent_required',
  'interaction_required',
  'login_required',
  'mfa_required',
])

/** Claims that only serve the protocol; the rest is what the page may know of the user. */
const protocolClaims: ReadonlySet<string> = new Set([
  'acr',
  'amr',
  'at_hash',
  'aud',
  'auth_time',
  'azp',
  'c_hash',
  'exp',
  'iat',
  'iss',
  'jti',
  'nbf',
  'nonce',
  's_hash',
  'sid',
])

const userClaims = (claims: object): Claims =>
  Object.fromEntries(Object.entries(claims).filter(([name]) => !protocolClaims.has(name)))

/** An OAuth error as the server sent it; its words are shortened and stripped of controls. */
const oauthError = (code: string, description?: unknown): TokenError => {
  const known = oauthCodes.has(code)
  const name = known ? code : code.replace(/[^\w.-]/g, '').slice(0, 60)
  const words =
    typeof description === 'string' ? description.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200) : ''
  return new TokenError(
    known ? (code as TokenErrorCode) : 'server_error',
    `The authorization server answered ${name}${words ? `: ${words}` : '.'}`,
    { transient: transientCodes.has(code) },
  )
}

const invalidAnswer = (what: string, cause?: unknown): TokenError =>
  new TokenError('invalid_token_response', `The token endpoint ${what}.`, {
    cause,
    transient: true,
  })

const readPayload = (jwt: string): Record<string, unknown> => {
  try {
    const base64 = (jwt.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/')
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
    const payload: unknown = JSON.parse(new TextDecoder().decode(bytes))
    return typeof payload === 'object' && payload !== null ? { ...payload } : {}
  } catch {
    return {}
  }
}

const readBody = async (response: Response): Promise<string> => {
  const reader = response.body?.getReader()
  if (!reader) return ''
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return text + decoder.decode()
    size += value.byteLength
    if (size > mostBytes) {
      await reader.cancel()
      throw invalidAnswer(`sent more than ${mostBytes / 1024} kB`)
    }
    text += decoder.decode(value, { stream: true })
  }
}

const parseObject = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? { ...value }
      : undefined
  } catch {
    return undefined
  }
}

const isJson = (response: Response): boolean =>
  /^application\/json\s*(;|$)/i.test(response.headers.get('content-type') ?? '')

/** `expires_in` in seconds: servers send numbers, strings, nothing and nonsense. */
const lifetime = (value: unknown): number | undefined => {
  const seconds = typeof value === 'string' && value.trim() ? Number(value) : value
  if (typeof seconds !== 'number' || Number.isNaN(seconds)) return undefined
  return Math.min(Math.max(seconds, 1), longestLife)
}

/** `Retry-After` in ms: RFC 9110 10.2.3 allows seconds and a date. */
const retryAfter = (response: Response, now: number): number | undefined => {
  const value = response.headers.get('retry-after')
  if (!value) return undefined
  // biome-ignore lint/style/noRestrictedGlobals: parsing a date needs no clock
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now
  return ms > 0 ? ms : undefined
}

/** Everything that is said to the authorization server. */
export const createAuthorizationServer = (
  config: Pick<
    Config,
    | 'issuer'
    | 'metadata'
    | 'clientId'
    | 'scope'
    | 'resource'
    | 'authorizationParams'
    | 'loopback'
    | 'logoutUrl'
    | 'authUrls'
  >,
  store: Pick<Store, 'readMetadata' | 'writeMetadata'>,
  platform: Pick<Platform, 'fetch' | 'now' | 'wait' | 'online'>,
) => {
  const { issuer, clientId } = config
  const wantsIdToken = config.scope.split(' ').includes('openid')
  const resource: Record<string, string> = config.resource ? { resource: config.resource } : {}
  const isSecure = (url: URL) =>
    url.protocol === 'https:' ||
    (config.loopback && url.protocol === 'http:' && isLoopback(url.hostname))

  let known: AuthorizationServerMetadata | undefined = config.metadata

  const unreachable = (code: TokenErrorCode, url: string, cause: unknown): TokenError => {
    if (!platform.online()) {
      return new TokenError('offline', 'There is no network.', { transient: true, cause })
    }
    return new TokenError(
      code,
      `No answer from ${url.split('?')[0]}. Either the server is down, or it does not allow this ` +
        "app's origin (CORS; register it as a web origin), or the Content-Security-Policy of the " +
        'worker script lacks it in connect-src, or an ad blocker stops it.',
      { transient: true, cause },
    )
  }

  /** A signal that is aborted after `ms`, unless the work has finished before. */
  const timeLimit = (ms: number) => {
    const late = new AbortController()
    const finished = new AbortController()
    platform.wait(ms, finished.signal).then(
      () => late.abort(),
      () => {},
    )
    return { signal: late.signal, finish: () => finished.abort() }
  }

  /** Sends one request and reads its answer, all within `limit` ms. */
  const exchange = async <T>(
    limit: number,
    code: TokenErrorCode,
    send: (options: {
      [oauth.customFetch]: (url: string, init: object) => Promise<Response>
      [oauth.allowInsecureRequests]: boolean
      signal: AbortSignal
    }) => Promise<Response>,
    read: (response: Response) => Promise<T>,
  ): Promise<T> => {
    const { signal, finish } = timeLimit(limit)
    let target = issuer
    try {
      const response = await send({
        [oauth.customFetch]: (url, init) => {
          target = url
          return platform.fetch(url, {
            ...init,
            mode: 'cors',
            credentials: 'omit',
            cache: 'no-store',
            redirect: 'error',
            referrerPolicy: 'no-referrer',
          })
        },
        [oauth.allowInsecureRequests]: config.loopback,
        signal,
      })
      return await read(response)
    } catch (cause) {
      if (cause instanceof TokenError) throw cause
      if (
        cause instanceof oauth.OperationProcessingError ||
        cause instanceof oauth.UnsupportedOperationError
      ) {
        throw invalidAnswer(`sent tokens that cannot be used: ${cause.message}`, cause)
      }
      if (signal.aborted) {
        throw new TokenError('timeout', `${target.split('?')[0]} took over ${limit / 1000} s.`, {
          transient: true,
          cause,
        })
      }
      // What fetch itself throws, while sending or while the body arrives, is a TypeError or, in
      // Chromium, for a body that breaks off, a plain network error.
      throw unreachable(code, target, cause)
    } finally {
      finish()
    }
  }

  const checkMetadata = (metadata: AuthorizationServerMetadata): AuthorizationServerMetadata => {
    const wrong = (message: string) => new TokenError('invalid_configuration', message)
    if (metadata.issuer !== issuer) {
      throw wrong(
        `The server's metadata names the issuer "${metadata.issuer}", the option issuer says ` +
          `"${issuer}". They must be the same to the last slash.`,
      )
    }
    const needed = ['authorization_endpoint', 'token_endpoint'] as const
    const optional = ['revocation_endpoint', 'end_session_endpoint'] as const
    for (const name of [...needed, ...optional]) {
      const url = metadata[name]
      if (url === undefined && optional.some((each) => each === name)) continue
      if (typeof url !== 'string' || !URL.canParse(url) || !isSecure(new URL(url))) {
        throw wrong(`The server's metadata has no usable ${name}.`)
      }
    }
    const methods = metadata.code_challenge_methods_supported
    if (methods && !methods.includes('S256')) {
      throw wrong('The server does not support PKCE with S256, which tokenward always uses.')
    }
    return metadata
  }

  const discover = async (): Promise<AuthorizationServerMetadata> => {
    const url = new URL(issuer)
    for (const algorithm of ['oidc', 'oauth2'] as const) {
      const found = await exchange(
        requestLimit,
        'metadata_unreachable',
        (options) => oauth.discoveryRequest(url, { ...options, algorithm }),
        async (response) =>
          response.status === 404
            ? undefined
            : { ok: response.ok, body: parseObject(await readBody(response)) },
      )
      if (!found) continue
      if (!found.ok || !found.body) {
        throw new TokenError('metadata_unreachable', `${issuer} gave no metadata.`, {
          transient: true,
        })
      }
      return checkMetadata(found.body as unknown as AuthorizationServerMetadata)
    }
    throw new TokenError(
      'metadata_unreachable',
      `${issuer} has no metadata at /.well-known/openid-configuration or ` +
        '/.well-known/oauth-authorization-server. Give the option issuer the metadata itself.',
    )
  }

  /** The metadata: given, remembered, stored for a day, or discovered; an old one if need be. */
  const metadata = async (): Promise<AuthorizationServerMetadata> => {
    if (known) return known
    const stored = await store.readMetadata().catch(() => undefined)
    const age = stored && platform.now() - stored.fetchedAt
    if (stored && age !== undefined && age >= 0 && age < metadataLife) {
      known = stored.metadata
      return known
    }
    try {
      known = await discover()
    } catch (error) {
      if (stored && error instanceof TokenError && error.transient) return stored.metadata
      throw error
    }
    await store.writeMetadata(known).catch(() => undefined)
    return known
  }

  const client = (skew = 0): oauth.Client => ({ client_id: clientId, [oauth.clockSkew]: skew })

  /** The answer of the token endpoint as the protocol library wants it, with a sane lifetime. */
  const toResponse = (body: Record<string, unknown>): Response => {
    const seconds = lifetime(body['expires_in'])
    const { expires_in: _, ...rest } = body
    return Response.json(seconds === undefined ? rest : { ...rest, expires_in: seconds })
  }

  const toTokens = (answer: oauth.TokenEndpointResponse, issuedAt: number): IssuedTokens => ({
    accessToken: answer.access_token,
    issuedAt,
    ...(answer.expires_in !== undefined && { expiresAt: issuedAt + answer.expires_in * 1000 }),
    ...(answer.refresh_token && { refreshToken: answer.refresh_token }),
    ...(answer.scope !== undefined && { scope: answer.scope }),
    ...(answer.id_token && { idToken: answer.id_token }),
  })

  /** Bearer tokens only: a DPoP token sent as Bearer would be refused everywhere. */
  const assertBearer = (body: Record<string, unknown>) => {
    const type = body['token_type']
    if (typeof type === 'string' && type.toLowerCase() !== 'bearer') {
      throw new TokenError(
        'invalid_token_response',
        `The server issued a token of type ${type.replace(/\W/g, '').slice(0, 20)}, not Bearer.`,
      )
    }
  }

  const tokenError = (status: number, body: Record<string, unknown> | undefined): TokenError =>
    typeof body?.['error'] === 'string'
      ? oauthError(body['error'], body['error_description'])
      : invalidAnswer(`answered with status ${status} and no OAuth error`)

  /** How far the server's clock is ahead of ours, in s: it stamps the ID token as we get it. */
  const skewOf = (idToken: unknown): number => {
    const issuedAt = typeof idToken === 'string' ? readPayload(idToken)['iat'] : undefined
    return typeof issuedAt === 'number' ? Math.floor(issuedAt - platform.now() / 1000) : 0
  }

  const idTokenError = (cause: unknown): TokenError => {
    const why = cause instanceof Error ? cause.message : 'malformed'
    return new TokenError('invalid_id_token', `The ID token was refused: ${why}.`, { cause })
  }

  return {
    metadata,

    /** The endpoints that never get a token, as far as the metadata is known by now. */
    protocolEndpoints: (): string[] => {
      if (!known) return []
      const names = [
        'authorization_endpoint',
        'token_endpoint',
        'revocation_endpoint',
        'introspection_endpoint',
        'end_session_endpoint',
        'registration_endpoint',
        'pushed_authorization_request_endpoint',
        'device_authorization_endpoint',
        'jwks_uri',
      ] as const
      return names.flatMap((name) => known?.[name] ?? [])
    },

    /** A random value of 256 bits, for `state`, tickets and the like. */
    randomValue: (): string => oauth.generateRandomState(),

    /** Secrets of one authorization request; they never leave the worker. */
    newSecrets: () => ({
      nonce: oauth.generateRandomNonce(),
      verifier: oauth.generateRandomCodeVerifier(),
      redirectUri: config.authUrls.callback,
      issuer,
    }),

    /** The authorization request (RFC 6749 4.1.1, RFC 7636 4.3, OpenID Connect Core 3.1.2.1). */
    authorizationUrl: async (
      state: string,
      { nonce, verifier, redirectUri }: NonNullable<Transaction['sent']>,
      params: Record<string, string>,
    ): Promise<string> => {
      const { authorization_endpoint: endpoint = '' } = await metadata()
      const url = new URL(endpoint)
      const all = {
        ...config.authorizationParams,
        ...params,
        ...resource,
        response_type: 'code',
        client_id: clientId,
        redirect_uri: redirectUri,
        scope: config.scope,
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        ...(wantsIdToken && { nonce }),
      }
      for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value)
      return url.href
    },

    /**
     * Redeems the answer that arrived at the callback (RFC 6749 4.1.3, RFC 9207,
     * OpenID Connect Core 3.1.3).
     *
     * @throws TokenError with the server's own code, or why its answer cannot be trusted
     */
    redeem: async (
      params: URLSearchParams,
      state: string,
      { nonce, verifier, redirectUri }: NonNullable<Transaction['sent']>,
      maxAge?: number,
    ): Promise<SignIn> => {
      const as = await metadata()
      let checked: URLSearchParams
      try {
        checked = oauth.validateAuthResponse(as, client(), params, state)
      } catch (cause) {
        if (cause instanceof oauth.AuthorizationResponseError) {
          throw oauthError(cause.error, cause.error_description)
        }
        const why = cause instanceof Error ? cause.message : 'malformed'
        throw new TokenError('invalid_callback', `The answer was refused: ${why}.`)
      }
      const issuedAt = platform.now()
      const body = await exchange(
        requestLimit,
        'token_endpoint_unreachable',
        (options) =>
          oauth.authorizationCodeGrantRequest(
            as,
            client(),
            oauth.None(),
            checked,
            redirectUri,
            verifier,
            { ...options, additionalParameters: resource },
          ),
        async (response) => {
          const parsed = parseObject(await readBody(response))
          if (response.status !== 200) throw tokenError(response.status, parsed)
          if (!parsed || !isJson(response)) throw invalidAnswer('sent something that is not JSON')
          return parsed
        },
      )
      assertBearer(body)
      const skew = skewOf(body['id_token'])
      if (Math.abs(skew) > mostSkew) {
        throw new TokenError(
          'clock',
          "This device's clock is more than a day off. Set it right and sign in again.",
        )
      }
      try {
        const answer = await oauth.processAuthorizationCodeResponse(
          as,
          client(skew),
          toResponse(body),
          {
            ...(wantsIdToken && { expectedNonce: nonce, requireIdToken: true }),
            ...(maxAge !== undefined && { maxAge }),
          },
        )
        const claims = oauth.getValidatedIdTokenClaims(answer)
        return {
          ...toTokens(answer, issuedAt),
          claims: claims ? userClaims(claims) : {},
          ...(claims && { subject: claims.sub }),
        }
      } catch (cause) {
        throw idTokenError(cause)
      }
    },

    /** The refresh grant (RFC 6749 6). Its ID token is not judged yet: see `readIdToken`. */
    refresh: async (refreshToken: string): Promise<RefreshAnswer> => {
      const as = await metadata().catch((error: TokenError) => error)
      if (as instanceof TokenError) return { kind: 'unavailable', error: as }
      const issuedAt = platform.now()
      try {
        return await exchange<RefreshAnswer>(
          requestLimit,
          'token_endpoint_unreachable',
          (options) =>
            oauth.refreshTokenGrantRequest(as, client(), oauth.None(), refreshToken, {
              ...options,
              additionalParameters: resource,
            }),
          async (response) => {
            const { status } = response
            const body = parseObject(await readBody(response))
            if (status === 200) {
              if (!isJson(response)) {
                // Whatever this is, a captive portal most likely, it is not the token endpoint.
                const error = invalidAnswer('sent something that is not JSON')
                return { kind: 'unavailable', error }
              }
              if (!body) return { kind: 'unknown', error: invalidAnswer('sent broken JSON') }
              assertBearer(body)
              const { id_token: idToken, ...rest } = body
              const answer = await oauth.processRefreshTokenResponse(as, client(), toResponse(rest))
              const tokens = toTokens(answer, issuedAt)
              if (typeof idToken === 'string') tokens.idToken = idToken
              return { kind: 'issued', tokens }
            }
            const error = tokenError(status, body)
            const code = body?.['error']
            if (status === 401) return { kind: 'not-now', error }
            if (status === 408 || status === 429 || status >= 500 || typeof code !== 'string') {
              const ms = retryAfter(response, platform.now())
              return { kind: 'unavailable', error, ...(ms !== undefined && { retryAfter: ms }) }
            }
            if (code === 'invalid_grant') return { kind: 'refused', error }
            if (interactiveCodes.has(code)) return { kind: 'not-now', error }
            if (error.transient) return { kind: 'unavailable', error }
            return { kind: 'misconfigured', error }
          },
        )
      } catch (error) {
        return { kind: 'unknown', error: error as TokenError }
      }
    },

    /** Judges the ID token of a refresh against the session it is for (OIDC Core 12.2). */
    readIdToken: async (
      idToken: string,
      { subject, accessToken }: { subject?: string; accessToken: string },
    ): Promise<RefreshedIdToken> => {
      const { iss, sub, aud } = readPayload(idToken)
      const audiences = Array.isArray(aud) ? aud : [aud]
      if (iss !== issuer || !audiences.includes(clientId)) return { kind: 'other-user' }
      if (subject !== undefined && sub !== subject) return { kind: 'other-user' }
      try {
        const answer = await oauth.processRefreshTokenResponse(
          await metadata(),
          client(skewOf(idToken)),
          Response.json({
            access_token: accessToken,
            token_type: 'bearer',
            id_token: idToken,
          }),
        )
        const claims = oauth.getValidatedIdTokenClaims(answer)
        return { kind: 'same', claims: userClaims(claims ?? {}) }
      } catch (cause) {
        return { kind: 'unusable', error: idTokenError(cause) }
      }
    },

    /** Revokes a refresh token (RFC 7009), as far as the server can and is there to do it. */
    revoke: async (refreshToken: string): Promise<void> => {
      try {
        const as = await metadata()
        if (!as.revocation_endpoint) return
        await exchange(
          goodbyeLimit,
          'token_endpoint_unreachable',
          (options) =>
            oauth.revocationRequest(as, client(), oauth.None(), refreshToken, {
              ...options,
              additionalParameters: { token_type_hint: 'refresh_token' },
            }),
          async () => undefined,
        )
      } catch {
        // The session is forgotten here all the same; the token ends with its own lifetime.
      }
    },

    /** Would a navigation to the server get there? Asked without CORS: any answer will do. */
    isReachable: async (): Promise<boolean> => {
      if (!platform.online()) return false
      const { signal, finish } = timeLimit(goodbyeLimit)
      try {
        const init = { method: 'HEAD', mode: 'no-cors', credentials: 'omit' } as const
        await platform.fetch(issuer, { ...init, cache: 'no-store', signal })
        return true
      } catch {
        return false
      } finally {
        finish()
      }
    },

    /** The logout request (OpenID Connect RP-Initiated Logout 1.0, 2); none without endpoint. */
    logoutUrl: async (state: string, idToken?: string): Promise<string | undefined> => {
      const { end_session_endpoint: endpoint } = await metadata()
      const postLogoutRedirectUri = config.authUrls.logout
      if (!endpoint) return config.logoutUrl?.({ clientId, postLogoutRedirectUri })
      const url = new URL(endpoint)
      url.searchParams.set('client_id', clientId)
      url.searchParams.set('post_logout_redirect_uri', postLogoutRedirectUri)
      url.searchParams.set('state', state)
      // A server may refuse a URL this long; client_id says enough.
      if (idToken && url.href.length + idToken.length < mostUrlCharacters) {
        url.searchParams.set('id_token_hint', idToken)
      }
      return url.href
    },
  }
}

export type AuthorizationServer = ReturnType<typeof createAuthorizationServer>
