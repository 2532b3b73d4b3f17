import type { TokenErrorData } from './errors.js'

/**
 * Version of everything in this file. A worker answers every call of a page that has another one
 * with `bridge_version`, in all versions of this library.
 */
export const PROTOCOL = 1

/** The marker and version on every message between page and worker. */
export interface Envelope {
  tokenward: number
  /** Which token worker of a service worker; a page that has only one need not say. */
  authPath?: string
}

/** What a page posts to cancel a request that it has named in the fragment of its URL. */
export interface Cancellation extends Envelope {
  cancel: string
}

/** What stands before that name. */
export const CANCEL_MARK = '#tokenward-cancel='

/** Header by which a page knows that the worker answered, and not the network. */
export const PROBE_HEADER = 'x-tokenward'

/** The five files under `authPath` whose navigations the worker answers itself. */
export type AuthPage = 'login' | 'silent' | 'callback' | 'done' | 'logout'

/** What the ID token says of the user, without the claims that only serve the protocol. */
export type Claims = { readonly [name: string]: unknown }

/** What a page may know of the signed-in user. It never contains a token. */
export interface Session {
  /** Claims of the ID token (`sub`, `name`, …); empty without the `openid` scope. */
  claims: Claims
  /** The scope that the authorization server granted, space separated. */
  scope: string
  /**
   * `fresh`: requests carry a valid access token. `renewing`: a new one is being fetched.
   * `stale`: there is none at the moment (offline, or a sign-in is needed); nothing is lost.
   */
  state: 'fresh' | 'renewing' | 'stale'
  /** When the user signed in here, in ms since 1970. */
  since: number
  /** When the access token expires, in ms since 1970; absent if the server did not say. */
  accessTokenExpiresAt?: number
}

/** Why a session is over. */
export type SignedOutReason = 'logout' | 'ended' | 'user_changed' | 'storage_cleared'

/** A {@link SessionEvent} as it crosses the bridge: errors are plain data. */
export type WireEvent =
  | { type: 'signed-in' | 'renewed' | 'state'; session: Session }
  | { type: 'login-required'; error: TokenErrorData; session?: Session }
  | { type: 'signed-out'; reason: SignedOutReason }
  | { type: 'problem'; error: TokenErrorData }
  | {
      type: 'step-up'
      wants: 'scope' | 'authentication'
      scope?: string
      params: Record<string, string>
    }

/** What the worker tells a page about itself and about how the page came here. */
export interface Hello {
  /** Absolute URL of `done.html`, which the worker answers also to a plain fetch. */
  probeUrl: string
  /** Name of the channel on which workers announce changes of the session, with their scope. */
  channel: string
  /** Set where this very page is where a sign-in landed. */
  landed?: true
  /** Why that failed, or why one failed on its way here. */
  landing?: TokenErrorData
}

/** What the worker knows of the session, and why the last one ended. */
export interface SessionReport {
  session?: Session
  /** Pages have been told that a sign-in is needed. */
  loginRequired?: true
  ended?: SignedOutReason
}

/** Where a logout goes on: at the server (`atServer`, a one-time URL), or in the app. */
export interface LogoutStart {
  url?: string
  atServer: boolean
}

/** What a page may ask of the worker. Each call has one plain argument and its own port. */
export interface WorkerCalls {
  hello(): Promise<Hello>
  /** Take control of this page (and of every other one in scope). */
  claim(): Promise<void>
  session(): Promise<SessionReport>
  /** Gives the one-time URL at which the sign-in starts. */
  login(input: { returnTo: string; params?: Record<string, string> }): Promise<{ url: string }>
  checkSession(): Promise<SessionReport>
  renew(): Promise<void>
  /** The network is back: renew a token that needs it, soon. */
  online(): Promise<void>
  /** Forgets the session; gives a URL where the server's own session can be ended. */
  logout(input: { returnTo?: string; local?: boolean }): Promise<LogoutStart>
  /** Did the authorization server send the browser back from the logout that began at `url`? */
  logoutOutcome(input: { url: string }): Promise<{ server: 'ended' | 'unknown' }>
}

/** How a hidden frame ended, with what the page can tell of why it did not get there. */
export interface FrameEnd {
  /** It reached `done.html`, the page's policy forbade it, or nothing came in time. */
  end: 'done' | 'blocked' | 'timeout'
  /** It has shown some document, if only the browser's own that says what is wrong. */
  loaded: boolean
  /** The page is cross-origin isolated, so its frames must be willing to be embedded. */
  isolated: boolean
}

/** What the worker may ask of a page. */
export interface PageCalls {
  /** Can this page run a hidden frame, and does the user see it? */
  probe(): { able: boolean; visible: boolean }
  /** Runs a hidden frame from `url` until it has reached `doneUrl`; at most `limit` ms. */
  openFrame(input: { url: string; doneUrl: string; limit: number }): Promise<FrameEnd>
}

/** What a worker posts to a page: an event for its listeners, or a port that wants a call. */
export type WorkerMessage = Envelope & ({ event: WireEvent } | { call: true })
