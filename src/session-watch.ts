import { createListeners, type Listeners } from './listeners.js'
import type { SessionEvent } from './session-event.js'
import { afterEvent, type KnownSession, newsBetween } from './session-news.js'
import type { SessionReport } from './shared/protocol.js'

/** Keeps the listeners of this page informed of the session. */
export interface SessionWatch extends Listeners {
  /** Emits an event of the worker. */
  take(event: SessionEvent): void
  /** Asks for the session and emits what has changed: a frozen page misses events. */
  catchUp(): Promise<void>
  isSignedIn(): boolean
}

/** @param report Asks the worker for the session */
export function createSessionWatch(report: () => Promise<SessionReport>): SessionWatch {
  let known: KnownSession = { session: null }

  const listeners = createListeners({
    release: (event) => {
      // A token may have arrived since.
      if (event.type !== 'login-required' || known.loginRequired) emit(event)
    },
    // One listener that throws must not keep the event from the others.
    onThrow: (error) => reportError(error),
  })
  const { emit, keep } = listeners

  return {
    ...listeners,

    take: (event) => {
      known = afterEvent(known, event)
      emit(event)
    },

    catchUp: async () => {
      const now = await report()
      // Compared only now: an event may have arrived while the worker answered.
      const news = newsBetween(known, now)
      known = now
      for (const event of news) (event.type === 'login-required' ? keep : emit)(event)
    },

    isSignedIn: () => !!known.session,
  }
}
