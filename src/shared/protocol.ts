import type { InteractionCode, TokenErrorData } from './errors.js'

/**
 * Version of everything in this file. In all versions of this library, a worker answers a call of
 * a page with another version with `bridge_version`.
 */
export const PROTOCOL = 1

/** The marker and version on every message between page and worker. */
export interface Envelope {
  tokenward: number
  /** Selects a token worker; optional where the service worker contains only one. */
  authPath?: string
}

/** A page posts this to cancel a request that it named in the fragment of its URL. */
export interface Cancellation extends Envelope {
  cancel: string
}

/** Precedes that name in the fragment. */
export const CANCEL_MARK = '#tokenward-cancel='

/** Header that marks an answer as the worker's, not the network's. */
export const PROBE_HEADER = 'x-tokenward'

/** The five files under `authPath` whose navigations the worker answers itself. */
export type AuthPage = 'login' | 'silent' | 'callback' | 'done' | 'logout'

/** The ID token's claims about the user, without those that only serve the protocol. */
export type Claims = { readonly [name: string]: unknown }

/** The session as a page may see it. It never contains a token. */
export interface Session {
  /** Claims of the ID token (`sub`, `name`, …); empty without the `openid` scope. */
  claims: Claims
  /** The scope that the authorization server granted, space separated. */
  scope: string
  /**
   * `fresh`: requests carry a valid access token. `renewing`: the worker is fetching a new one.
   * `stale`: the worker has no valid one now (offline, or the user has to sign in); nothing is
   * lost.
   */
  state: 'fresh' | 'renewing' | 'stale'
  /** Time of the sign-in here, in ms since 1970. */
  since: number
  /** Expiry of the access token, in ms since 1970; absent if the server did not send one. */
  accessTokenExpiresAt?: number
}

/** Why a session is over. */
export type SignedOutReason = 'logout' | 'ended' | 'user_changed' | 'storage_cleared'

/** A {@link SessionEvent} as it crosses the bridge: errors are plain data. */
export type WireEvent =
  | { type: 'signed-in' | 'renewed' | 'state'; session: Session }
  | { type: 'login-required'; error: TokenErrorData; session?: Session }
  | { type: 'signed-out'; reason: SignedOutReason; code?: InteractionCode }
  | { type: 'problem'; error: TokenErrorData }
  | {
      type: 'step-up'
      wants: 'scope' | 'authentication'
      scope?: string
      params: Record<string, string>
    }

/** The worker's answer to a greeting: about itself, and about a sign-in that landed. */
export interface Hello {
  /** Absolute URL of `done.html`, which the worker answers also to a plain fetch. */
  probeUrl: string
  /** Name of the channel on which workers announce changes of the session, with their scope. */
  channel: string
  /** A sign-in landed on this very page. */
  landed?: true
  /** Why that sign-in failed, or one on its way here. */
  landing?: TokenErrorData
  /** The origins of the APIs, so that the page can say which one is missing: in development. */
  apis?: string[]
}

/** The session as the worker knows it, and why the last one ended. */
export interface SessionReport {
  session?: Session
  /** The worker has asked pages for a sign-in. */
  loginRequired?: true
  ended?: SignedOutReason
  /** The server's own word, if that has ended it. */
  code?: InteractionCode
}

/** Where a logout continues: at the server (`atServer`, a one-time URL), or in the app. */
export interface LogoutStart {
  url?: string
  atServer: boolean
}

/** The calls of a page to the worker. Each has one plain argument and its own port. */
export interface WorkerCalls {
  hello(): Promise<Hello>
  /** Takes control of this page and of every other one in scope. */
  claim(): Promise<void>
  session(): Promise<SessionReport>
  /** Returns the one-time URL at which the sign-in starts. */
  login(input: { returnTo: string; params?: Record<string, string> }): Promise<{ url: string }>
  checkSession(): Promise<SessionReport>
  renew(): Promise<void>
  /** The network is back: the worker soon renews a token that needs it. */
  online(): Promise<void>
  /** Forgets the session; returns a URL at which the server ends its own. */
  logout(input: { returnTo?: string; local?: boolean }): Promise<LogoutStart>
  /** Did the authorization server send the browser back from the logout that began at `url`? */
  logoutOutcome(input: { url: string }): Promise<{ server: 'ended' | 'unknown' }>
}

/** How a hidden frame ended, and what the page can observe of the cause. */
export interface FrameEnd {
  /** It reached `done.html`, the page's policy forbade it, or the time was up. */
  end: 'done' | 'blocked' | 'timeout'
  /** It has loaded some document, if only the browser's own error page. */
  loaded: boolean
  /** The page is cross-origin isolated: its frames have to opt in to being embedded. */
  isolated: boolean
}

/** The calls of the worker to a page. */
export interface PageCalls {
  /** Can this page run a hidden frame, and does the user see the page? */
  probe(): { able: boolean; visible: boolean }
  /** Runs a hidden frame from `url` until it reaches `doneUrl`, for `limit` ms at most. */
  openFrame(input: { url: string; doneUrl: string; limit: number }): Promise<FrameEnd>
}

/** A worker posts this to a page: an event for its listeners, or a port for a call. */
export type WorkerMessage = Envelope & ({ event: WireEvent } | { call: true })
