import { createListeners } from './listeners.js'
import type { SessionEvent } from './session-event.js'
import { TokenError } from './shared/errors.js'
import type { Session } from './shared/protocol.js'
import type { TokenManager } from './token-manager.js'

/** The start of a {@link TestTokenManager}. */
export interface TestTokenManagerOptions {
  /** The session at the start; missing fields get plain values. Default: signed out. */
  session?: Partial<Session>
  /** Events that the first listener of `onChange` gets, in this order. */
  events?: SessionEvent[]
}

/** A token manager for unit tests: no worker, no network, the same interface. */
export interface TestTokenManager extends TokenManager {
  /** The calls of the code under test, in order. */
  readonly calls: readonly {
    name: 'login' | 'logout' | 'renew' | 'checkSession'
    input?: unknown
  }[]
  /** Emits an event as if the worker had sent it, and changes `session()` to match. */
  emit(event: SessionEvent): void
}

const completeSession = (session: Partial<Session>): Session => ({
  claims: { sub: 'test-user' },
  scope: 'openid',
  state: 'fresh',
  since: 0,
  ...session,
})

/**
 * Creates a token manager for unit tests (jsdom or plain Node). `login()` stays pending, as in a
 * browser that leaves the page; `logout()` ends the session; `renew()` and `checkSession()`
 * answer from the session given.
 *
 * @example
 * const auth = createTestTokenManager({ session: { claims: { name: 'Ada' } } })
 * render(<App auth={auth} />)
 * auth.emit({ type: 'signed-out', reason: 'ended' })
 */
export const createTestTokenManager = (options: TestTokenManagerOptions = {}): TestTokenManager => {
  const calls: { name: 'login' | 'logout' | 'renew' | 'checkSession'; input?: unknown }[] = []
  let session = options.session && completeSession(options.session)

  const emit = (event: SessionEvent) => {
    if (event.type === 'signed-out') session = undefined
    else if ('session' in event && event.session) session = event.session
    listeners.emit(event)
  }
  const listeners = createListeners({
    release: emit,
    // A failed assertion inside a listener has to reach the test.
    onThrow: (error) => {
      throw error
    },
  })
  options.events?.forEach(listeners.keep)

  return {
    ready: Promise.resolve(),
    calls,
    emit,
    session: async () => session,
    login: (input) => {
      calls.push({ name: 'login', input })
      return new Promise<never>(() => {})
    },
    checkSession: async () => {
      calls.push({ name: 'checkSession' })
      return session
    },
    renew: async () => {
      calls.push({ name: 'renew' })
      if (!session) throw new TokenError('signed_out', 'Nobody is signed in.')
      emit({ type: 'renewed', session: { ...session, state: 'fresh' } })
    },
    logout: async (input) => {
      calls.push({ name: 'logout', input })
      if (session) emit({ type: 'signed-out', reason: 'logout' })
      return { server: 'unknown' }
    },
    onChange: listeners.onChange,
    close: listeners.clear,
  }
}
