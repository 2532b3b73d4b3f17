import { fromErrorData, type InteractionCode, type TokenError } from './shared/errors.js'
import type { Session, SignedOutReason, WireEvent } from './shared/protocol.js'

/** What listeners of {@link TokenManager.onChange} get. */
export type SessionEvent =
  /** The user signed in; the access token was renewed; `session.state` changed. */
  | { type: 'signed-in' | 'renewed' | 'state'; session: Session }
  /** Only the user can bring the next token. Sent once; offer a way to `login()`. */
  | { type: 'login-required'; error: TokenError; session?: Session }
  /**
   * The session is over, for the reason given. `code`: what the authorization server wants of the
   * user, if it was the server that ended it (OpenID Connect Core 3.1.2.6).
   */
  | { type: 'signed-out'; reason: SignedOutReason; code?: InteractionCode }
  /** Something went wrong that ends nothing: a sign-in failed, the set-up is faulty. */
  | { type: 'problem'; error: TokenError }
  /**
   * An API wants more than this sign-in gives: more `scope` (RFC 6750 3.1), or a stronger or more
   * recent sign-in, for which `params` are what to give to `login({ params })` (RFC 9470 3). Sent
   * once for each access token and wish; the code that made the request gets the API's answer.
   */
  | {
      type: 'step-up'
      wants: 'scope' | 'authentication'
      scope?: string
      params: Record<string, string>
    }

/** The event as listeners get it: its error is a {@link TokenError} again. */
export const toSessionEvent = (event: WireEvent): SessionEvent =>
  'error' in event ? { ...event, error: fromErrorData(event.error) } : event
