import type { Listeners } from './listeners.js'
import type { SessionEvent } from './session-event.js'
import { afterEvent, type KnownSession, newsBetween } from './session-news.js'
import type { SessionReport } from './shared/protocol.js'

/** Keeps the listeners of this page informed of the session. */
export interface SessionWatch {
  /** Emits an event of the worker. */
  take(event: SessionEvent): void
  /** Asks for the session and emits what has changed: a frozen page misses events. */
  catchUp(): Promise<void>
  isSignedIn(): boolean
  /** Listeners have been asked for a sign-in, and none has followed. */
  isLoginRequired(): boolean
}

export function createSessionWatch({
  report,
  listeners,
}: {
  report: () => Promise<SessionReport>
  listeners: Listeners
}): SessionWatch {
  let known: KnownSession = { session: null }

  return {
    take: (event) => {
      known = afterEvent(known, event)
      listeners.emit(event)
    },

    catchUp: async () => {
      const now = await report()
      // Compared only now: an event may have arrived while the worker answered.
      const news = newsBetween(known, now)
      known = { session: now.session, loginRequired: now.loginRequired }
      for (const event of news) {
        if (event.type === 'login-required') listeners.keep(event)
        else listeners.emit(event)
      }
    },

    isSignedIn: () => !!known.session,
    isLoginRequired: () => !!known.loginRequired,
  }
}
