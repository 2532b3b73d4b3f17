import { absoluteUrl } from './absolute-url.js'
import { createAnnouncements } from './announcements.js'
import { onRestored } from './bfcache.js'
import { createPendingLogin, leaveFor } from './leave.js'
import { isLoop } from './login-loop.js'
import { createOwnWorkers } from './own-workers.js'
import { whenShown } from './prerendering.js'
import { type RegisterOptions, type ScriptUrl, whenActive } from './register.js'
import { type SessionEvent, toSessionEvent } from './session-event.js'
import { createSessionWatch } from './session-watch.js'
import { createSetUp } from './set-up.js'
import { TokenError } from './shared/errors.js'
import type { Session, WireEvent } from './shared/protocol.js'
import { createWorkerBridge, type WorkerBridge } from './worker-bridge.js'

/** What an app holds. It never handles a token. */
export interface TokenManager {
  /**
   * Resolves once the worker controls this page: from then on, requests carry tokens. Rejects
   * with a {@link TokenError} that gives the cause and the remedy; a rejection without a handler
   * is not reported as unhandled. On a server it stays pending.
   */
  readonly ready: Promise<void>
  /** The stored session, without a request to the network; undefined if there is none. */
  session(): Promise<Session | undefined>
  /**
   * Signs in: leaves for the authorization server, which sends the browser back to `returnTo`.
   * Never resolves: on success, the browser has left this page.
   *
   * @param options.returnTo URL on this origin to come back to; default: this page, hash included
   * @param options.params More parameters for the authorization request (`prompt`, `login_hint`,
   *   `acr_values`, `organization`, …). Silent logins of this session ask for the same, apart from
   *   what is meant for one sign-in (`prompt`, `max_age`, `claims`, `login_hint`, `screen_hint`)
   * @throws TokenError `cancelled` if the user comes Back, `invalid_input`, `login_loop`;
   *   `unsupported` inside a frame, which can show no sign-in page; `out_of_scope` or `worker_order`
   *   where `ready` has said so, since no sign-in would come back
   */
  login(options?: { returnTo?: string; params?: Record<string, string> }): Promise<never>
  /**
   * Asks the authorization server, in a hidden frame, whether the user has a session there; signs
   * in if so, else gives undefined. Ends a session only if the server's is of another user.
   *
   * @throws TokenError `consent_required`, `interaction_required`, `account_selection_required`,
   *   `timeout`, `offline`, `silent_login_blocked`; `silent_login_off` where the worker's option
   *   `silentLogin` is `false`
   */
  checkSession(): Promise<Session | undefined>
  /**
   * Renews the access token now.
   *
   * @throws TokenError the cause, if that is impossible now. Without a session, `signed_out`, or
   *   what the authorization server wants of the user if that has ended it (`login_required`,
   *   `consent_required`, `account_selection_required`, `interaction_required`)
   */
  renew(): Promise<void>
  /**
   * Signs out: forgets the tokens, publishes that to every tab, revokes the refresh token and,
   * unless `local`, leaves for the authorization server to end the session there. Works offline.
   *
   * The browser leaves the page if the server is reachable and supports logout: then the promise
   * settles only if the user comes Back. Otherwise it resolves with `unknown`.
   *
   * @param options.returnTo URL on this origin at which the sign-out ends; default: the app's root
   * @param options.local Sign out here only, and stay on this page unless `returnTo` is given
   */
  logout(options?: { returnTo?: string; local?: boolean }): Promise<{ server: 'ended' | 'unknown' }>
  /**
   * Calls `listener` with each change, in every tab. The first listener also gets what this page
   * begins with: a sign-in that has just failed, or the need for one.
   *
   * @returns A function that removes the listener; so does aborting `options.signal`
   */
  onChange(listener: (event: SessionEvent) => void, options?: { signal?: AbortSignal }): () => void
  /** Removes all listeners. The worker keeps running. */
  close(): void
}

/** Signs out, and leaves the page where the sign-out goes on elsewhere. */
const logOut = async (
  bridge: WorkerBridge,
  { returnTo, local }: { returnTo?: string; local?: boolean },
): Promise<{ server: 'ended' | 'unknown' }> => {
  const { url, atServer } = await bridge.ask('logout', {
    returnTo: returnTo === undefined ? returnTo : absoluteUrl(returnTo),
    local,
  })
  if (url === undefined) return { server: 'unknown' }
  if (!atServer) {
    // Offline, the browser may be unable to show the app's root.
    if (returnTo !== undefined || navigator.onLine) location.assign(url)
    return { server: 'unknown' }
  }
  await leaveFor(url)
  return await bridge.ask('logoutOutcome', { url })
}

const refuseOnServer = async (): Promise<never> => {
  throw new TokenError('unsupported', 'A server cannot sign in a user.')
}

/** A token manager while the app is rendered on a server: without session and without effect. */
const createOnServer = (): TokenManager => ({
  ready: new Promise(() => {}),
  session: async () => undefined,
  login: refuseOnServer,
  checkSession: refuseOnServer,
  renew: refuseOnServer,
  logout: refuseOnServer,
  onChange: () => () => {},
  close: () => {},
})

const createInPage = (scriptUrl: ScriptUrl | undefined, options: RegisterOptions): TokenManager => {
  const closing = new AbortController()
  const { signal } = closing
  const pendingLogin = createPendingLogin()
  const workers = createOwnWorkers(scriptUrl, options)

  const onEvent = (wire: WireEvent) => {
    // Until the page's own worker is known, any worker of the origin may be the sender. The set-up
    // asks for the session afterwards.
    if (!workers.found() && wire.type !== 'problem') return
    const event = toSessionEvent(wire)
    if (event.type === 'problem') setUp.takeProblem(event.error)
    watch.take(event)
  }
  const bridge = createWorkerBridge({
    activeWorker: async () => await whenActive(await workers.registration),
    isOurs: workers.includes,
    onEvent,
    authPath: options.authPath,
    signal,
  })
  const watch = createSessionWatch(() => bridge.ask('session'))
  const announcements = createAnnouncements({
    onHint: watch.catchUp,
    signal,
  })
  const setUp = createSetUp({ workers, bridge, announcements, watch })

  const catchUp = () => watch.catchUp().catch(() => {})
  const onVisible = () => {
    if (document.visibilityState === 'visible') catchUp()
  }
  const onOnline = () => {
    bridge.ask('online').catch(() => {})
  }
  onRestored(catchUp, signal)
  document.addEventListener('visibilitychange', onVisible, { signal })
  addEventListener('online', onOnline, { signal })

  return {
    ready: setUp.ready,

    session: async () => (await bridge.ask('session')).session,

    login: ({ returnTo, params } = {}) =>
      pendingLogin(async () => {
        await whenShown()
        await setUp.greeted
        await setUp.hopeful()
        if (!watch.isSignedIn() && isLoop()) {
          throw new TokenError(
            'login_loop',
            'Sign-ins come back without success and start again by themselves. Wait for a click.',
          )
        }
        const goal = absoluteUrl(returnTo ?? location.href)
        const { url } = await bridge.ask('login', { returnTo: goal, params })
        await leaveFor(url)
        throw new TokenError('cancelled', 'The user came back without signing in.')
      }),

    checkSession: async () => {
      await whenShown()
      return (await bridge.ask('checkSession')).session
    },

    renew: async () => {
      await whenShown()
      await bridge.ask('renew')
    },

    logout: async (input = {}) => {
      await whenShown()
      return await logOut(bridge, input)
    },

    onChange: watch.onChange,

    close: () => {
      watch.clear()
      closing.abort()
    },
  }
}

/**
 * Creates the token manager of this page.
 *
 * @param scriptUrl The worker script to register: a string, a `URL` or a `TrustedScriptURL`; leave
 *   it out to adopt the worker that the app's own tooling registers
 * @param options `scope` and `type` as in `navigator.serviceWorker.register`;
 *   `authPath` where the worker script creates several token workers
 *
 * @example
 * const auth = createTokenManager('/sw.js')
 * signInButton.onclick = () => auth.login()
 * const session = await auth.session()
 */
export const createTokenManager = (
  scriptUrl?: ScriptUrl,
  options: RegisterOptions = {},
): TokenManager =>
  typeof document === 'undefined' ? createOnServer() : createInPage(scriptUrl, options)
