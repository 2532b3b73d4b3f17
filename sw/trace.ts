/**
 * One step of the worker's work, for the option `trace`. It carries no token, code or other
 * secret: URLs come without query and fragment, errors as codes.
 */
export interface TraceStep {
  /** When, in ms since 1970. */
  at: number
  /** Number of the API request it belongs to; absent where it belongs to none. */
  request?: number
  step:
    | 'request'
    | 'attached'
    | 'passed'
    | 'withheld'
    | 'waiting'
    | 'unauthorized'
    | 'retried'
    | 'answered'
    | 'failed'
    | 'login'
    | 'refreshing'
    | 'refreshed'
    | 'refresh-failed'
    | 'silent-login'
    | 'silent-login-done'
    | 'silent-login-failed'
    | 'signed-in'
    | 'signed-out'
  method?: string
  url?: string
  status?: number
  /** A TokenError code, the reason of a sign-out, or why a request goes without a token. */
  code?: string
}

/** Receives the steps; it must return at once and not throw. */
export type Trace = (step: TraceStep) => void

/** What the parts of the worker call with each step, if the option `trace` is set. */
export type Note = (step: TraceStep['step'], more?: Partial<TraceStep>) => void
