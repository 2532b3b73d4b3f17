/** What is wrong with an answer of the authorization server, as a `TokenError`. */
import { TokenError, type TokenErrorCode } from '../../src/shared/errors.js'

/** Codes of the authorization server that pages may get; any other becomes `server_error`. */
const oauthCodes = [
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
] as const satisfies readonly TokenErrorCode[]

export type OAuthCode = (typeof oauthCodes)[number]

const isOAuthCode = (code: string): code is OAuthCode =>
  (oauthCodes as readonly string[]).includes(code)

/** Words of a server, made harmless: short, and without control characters. */
export const quote = (words: unknown): string =>
  typeof words === 'string' ? words.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200) : ''

/** An error that the server sent (RFC 6749 4.1.2.1 and 5.2). */
export const oauthError = (code: string, description: unknown): TokenError =>
  new TokenError(
    isOAuthCode(code) ? code : 'server_error',
    `The authorization server answered ${quote(code)}. ${quote(description)}`,
  )

// None of these has a cause: the errors of oauth4webapi hold the whole answer, tokens and all.

export const invalidAnswer = (what: string): TokenError =>
  new TokenError('invalid_token_response', `The authorization server's answer ${what}.`)

export const invalidCallback = (why: string): TokenError =>
  new TokenError('invalid_callback', `The answer was refused: ${why}`)

export const invalidIdToken = (why: string): TokenError =>
  new TokenError('invalid_id_token', `The ID token was refused: ${why}`)

export const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : '')
