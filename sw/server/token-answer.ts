/** Judges what the token endpoint answers (RFC 6749 5). */
import * as oauth from 'oauth4webapi'
import { asTokenError, type OAuthErrorCode, TokenError } from '../../src/shared/errors.js'
import { isJson, parseObject, readBody } from '../http/body.js'
import type { Platform } from '../platform.js'
import type { IssuedTokens } from '../session/active-record.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import { invalidAnswer, oauthError, quote } from './server-error.js'

/** How a refresh ends, told apart by what it means for the refresh token. */
export type RefreshAnswer =
  /** The server issued tokens. */
  | { kind: 'issued'; tokens: IssuedTokens }
  /** The server will never take this refresh token again. */
  | { kind: 'refused'; error: TokenError }
  /** The server wants something else than a refresh; the token may still be good. */
  | { kind: 'not-now'; error: TokenError }
  /**
   * No tokens, and nothing that says "later": the server refuses in words of its own, or a proxy in
   * an outage answered. `acted`: the server may have replaced the refresh token.
   */
  | { kind: 'rejected'; error: TokenError; acted?: boolean }
  /** The server has not acted: it said so, was not asked, or something in between answered. */
  | { kind: 'unavailable'; error: TokenError; retryAfter?: number }
  /** The answer is missing or unclear: the server may have acted or not. */
  | { kind: 'unknown'; error: TokenError; retryAfter?: number }

/** Bound to a key, or not. */
export type TokenType = 'DPoP' | 'Bearer'

/** s */
const longestLife = 365 * 24 * 3_600

/** Answers to a refresh that a sign-in cures, although the refresh token may be good. */
const interactiveCodes: readonly string[] = [
  'access_denied',
  'consent_required',
  'interaction_required',
  'login_required',
  'mfa_required',
] satisfies OAuthErrorCode[]

/** Answers that say that the server has not looked at the request (RFC 9110 15, RFC 6585). */
const notActed: readonly number[] = [408, 425, 429, 503, 511]

/** Words for a server that fails, whatever its status (RFC 6749 4.1.2.1). */
const laterCodes: readonly string[] = [
  'server_error',
  'temporarily_unavailable',
] satisfies OAuthErrorCode[]

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

/** A token response as oauth4webapi wants it: a sane lifetime, and nothing empty. */
const toResponse = (body: Record<string, unknown>): Response => {
  const { access_token: token } = body
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw invalidAnswer('has no access token that fits into a header')
  }
  const present = Object.entries(body).filter(([, value]) => value !== null && value !== '')
  const { scope } = body
  return Response.json({
    ...Object.fromEntries(present),
    // Some servers send a list.
    ...(Array.isArray(scope) && { scope: scope.join(' ') }),
    expires_in: lifetime(body['expires_in']),
  })
}

const toTokens = (answer: oauth.TokenEndpointResponse, issuedAt: number): IssuedTokens => ({
  accessToken: answer.access_token,
  issuedAt,
  expiresAt: answer.expires_in && issuedAt + answer.expires_in * 1000,
  refreshToken: answer.refresh_token,
  scope: answer.scope,
})

/**
 * An API would refuse a token that is not bound although it should be, and a token that is bound
 * to a key which is not here; neither is used.
 */
export const assertType = ({ token_type: type }: Record<string, unknown>, wanted: TokenType) => {
  if (String(type).toLowerCase() !== wanted.toLowerCase()) {
    throw invalidAnswer(`has a token of type "${quote(type)}", not ${wanted}`)
  }
}

const tokenError = (status: number, body: Record<string, unknown> | undefined): TokenError =>
  typeof body?.['error'] === 'string'
    ? oauthError(body['error'], body['error_description'])
    : invalidAnswer(`is ${status} without an OAuth error`)

/** The JSON of an answer with this status, which is the only one that means success. */
export const readJsonAnswer = async (
  response: Response,
  status: number,
): Promise<Record<string, unknown>> => {
  const parsed = parseObject(await readBody(response))
  if (response.status !== status) throw tokenError(response.status, parsed)
  if (!parsed || !isJson(response)) throw invalidAnswer('is not JSON')
  return parsed
}

/** The tokens of a successful answer. The ID token is taken as it is, to be judged apart. */
export const tokensIn = async (
  body: Record<string, unknown>,
  {
    as,
    client,
    issuedAt,
  }: { as: oauth.AuthorizationServer; client: oauth.Client; issuedAt: number },
): Promise<IssuedTokens> => {
  const { id_token: idToken, ...rest } = body
  try {
    const answer = await oauth.processRefreshTokenResponse(as, client, toResponse(rest))
    const tokens = toTokens(answer, issuedAt)
    if (idToken && typeof idToken === 'string') tokens.idToken = idToken
    return tokens
  } catch (cause) {
    if (
      cause instanceof oauth.OperationProcessingError ||
      cause instanceof oauth.UnsupportedOperationError
    ) {
      throw invalidAnswer(`cannot be used: ${cause.message}`)
    }
    throw cause
  }
}

/** A body that is too long says nothing; one that breaks off is no answer. */
const unlessTooLong = (cause: unknown): string => {
  if (cause instanceof TokenError) return ''
  throw cause
}

/** A captive portal answers like that, not the token endpoint. */
const isWebPage = (response: Response, text: string): boolean =>
  /html/i.test(response.headers.get('content-type') ?? '') || /^\s*</.test(text)

/**
 * Reads the answer to a refresh (RFC 6749 5.1 and 5.2).
 *
 * @throws if the answer breaks off
 */
export const readRefreshAnswer = async (
  response: Response,
  {
    as,
    client,
    tokenType,
    issuedAt,
    now,
  }: {
    as: AuthorizationServerMetadata
    client: oauth.Client
    tokenType: TokenType
    issuedAt: number
    now: Platform['now']
  },
): Promise<RefreshAnswer> => {
  const { status } = response
  const text = await readBody(response).catch(unlessTooLong)
  const body = parseObject(text)
  const { error: code, access_token: token } = body ?? {}
  const isError = typeof code === 'string' && !token
  // Some servers send their errors with 200, too.
  if (response.ok && !isError) {
    if (isWebPage(response, text)) {
      return { kind: 'unavailable', error: invalidAnswer('is not JSON') }
    }
    try {
      if (status !== 200 || !body || !isJson(response)) throw invalidAnswer('is not JSON')
      assertType(body, tokenType)
      return { kind: 'issued', tokens: await tokensIn(body, { as, client, issuedAt }) }
    } catch (cause) {
      const error = asTokenError(cause, 'invalid_token_response', '')
      return { kind: 'rejected', error, acted: true }
    }
  }
  const error = tokenError(status, body)
  if (status === 401 || interactiveCodes.includes(code as string)) return { kind: 'not-now', error }
  if (code === 'invalid_grant') return { kind: 'refused', error }
  const retryAfter = retryAfterOf(response, now())
  // A 500 can come after the token was replaced; with a 502 or 504, a gateway says that it had no
  // answer itself.
  const isLater = notActed.includes(status) || (retryAfter && status < 500)
  if (!isLater && status >= 500) return { kind: 'unknown', error, retryAfter }
  if (isLater || laterCodes.includes(code as string)) {
    return { kind: 'unavailable', error, retryAfter }
  }
  return { kind: 'rejected', error }
}
