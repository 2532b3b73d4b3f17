/**
 * What an authorization server sends (RFC 6749 4.1.2.1 and 5.2, OpenID Connect Core 3.1.2.6). A code
 * that is not in this list arrives as `server_error`.
 */
export const oauthCodes = [
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
] as const

export type OAuthErrorCode = (typeof oauthCodes)[number]

/**
 * Every code a {@link TokenError} can carry. OAuth and OpenID Connect codes arrive as the
 * authorization server sent them; an unknown one arrives as `server_error`. docs/errors.md lists
 * what each one means and what to do about it.
 */
export type TokenErrorCode =
  | OAuthErrorCode
  // Setting up
  | 'bridge_version'
  | 'cors_expose_headers'
  | 'insecure_context'
  | 'invalid_configuration'
  | 'no_registration'
  | 'no_token_worker'
  | 'not_controlled'
  | 'out_of_scope'
  | 'unsupported'
  | 'worker_order'
  | 'worker_script_failed'
  // Signing in and staying signed in
  | 'cancelled'
  | 'clock'
  | 'invalid_callback'
  | 'invalid_id_token'
  | 'invalid_input'
  | 'invalid_token_response'
  | 'login_interrupted'
  | 'login_loop'
  | 'metadata_unreachable'
  | 'no_page'
  | 'offline'
  | 'signed_out'
  | 'silent_login_blocked'
  | 'silent_login_off'
  | 'silent_login_paused'
  | 'storage_failed'
  | 'timeout'
  | 'token_endpoint_unreachable'
  | 'unsolicited_callback'
  | 'user_changed'
  | 'worker_timeout'

/** Refusals of `prompt=none`: only the user can go on (OpenID Connect Core 3.1.2.6). */
export const interactionCodes = [
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'login_required',
] as const satisfies readonly OAuthErrorCode[]

export type InteractionCode = (typeof interactionCodes)[number]

/** What a {@link TokenError} is made of when it crosses between page and worker. */
export interface TokenErrorData {
  code: TokenErrorCode
  message: string
}

/** Codes of failures that pass: another try can help, and nothing is lost. */
const transientCodes: readonly string[] = [
  'invalid_token_response',
  'login_interrupted',
  'metadata_unreachable',
  'no_page',
  'offline',
  'server_error',
  'silent_login_blocked',
  'silent_login_paused',
  'storage_failed',
  'temporarily_unavailable',
  'timeout',
  'token_endpoint_unreachable',
  'worker_timeout',
] satisfies TokenErrorCode[]

declare const DEVELOPMENT: boolean

/** Where each code is explained; the file is in the package. */
const explanations = 'tokenward/docs/errors.md'

/** What the production build says: the code, names and values, and where to read on. */
const withPointer = (code: TokenErrorCode, values = ''): string => {
  const pointer = `(${explanations}#${code})`
  // An error that comes over the bridge has its pointer already.
  if (values.endsWith(pointer)) return values
  const said = values.trim()
  return `${code}${said && `: ${said}`} ${pointer}`
}

/**
 * The one error class of tokenward. Branch on `code`, never on `message`. In the development build
 * `message` says what failed and what to do; in the production build it has the code, the names and
 * values, and where to read on. It never contains a token, a code or another secret.
 */
export class TokenError extends Error {
  override readonly name = 'TokenError'
  readonly code: TokenErrorCode
  /** Can another try help, with nothing lost (no network, timeouts)? */
  readonly transient: boolean

  constructor(code: TokenErrorCode, message: string, cause?: unknown) {
    super(DEVELOPMENT ? message : withPointer(code, message), { cause })
    this.code = code
    this.transient = transientCodes.includes(code)
  }
}

/**
 * Is this value a {@link TokenError}? By name, because `instanceof` fails across frames and
 * between two copies of the library.
 */
export const isTokenError = (value: unknown): value is TokenError =>
  value instanceof Error && value.name === 'TokenError' && 'code' in value

/** Returns a thrown {@link TokenError} as it is, and wraps anything else with this code. */
export const asTokenError = (cause: unknown, code: TokenErrorCode, message: string): TokenError =>
  isTokenError(cause) ? cause : new TokenError(code, message, cause)

/** How a call over the bridge ends: errors are data, because a thrown error loses its `code`. */
export type Answer<T> = { ok: true; value: T } | { ok: false; error: TokenErrorData }

export const toErrorData = ({ code, message }: TokenErrorData): TokenErrorData => ({
  code,
  message,
})

export const fromErrorData = ({ code, message }: TokenErrorData): TokenError =>
  new TokenError(code, message)
