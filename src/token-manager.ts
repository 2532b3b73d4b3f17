import { countRound, isLoop } from './login-loop.js'
import { whenShown } from './prerendering.js'
import {
  findRegistration,
  type RegisterOptions,
  type ScriptUrl,
  whenActive,
  whenControlled,
} from './register.js'
import { asTokenError, fromErrorData, TokenError } from './shared/errors.js'
import type { Session, SignedOutReason, WireEvent } from './shared/protocol.js'
import { createWorkerBridge } from './worker-bridge.js'

/** What listeners of {@link TokenManager.onChange} get. */
export type SessionEvent =
  /** Signed in; the access token was renewed; `session.state` has changed. */
  | { type: 'signed-in' | 'renewed' | 'state'; session: Session }
  /** No token is to be had without the user. Told once; offer a way to `login()`. */
  | { type: 'login-required'; error: TokenError; session?: Session }
  /** The session is over, for the reason given. */
  | { type: 'signed-out'; reason: SignedOutReason }
  /** Something went wrong that ends nothing: a sign-in that failed, a faulty set-up. */
  | { type: 'problem'; error: TokenError }
  /**
   * An API wants more than this sign-in gives: more `scope` (RFC 6750 3.1), or a stronger or more
   * recent sign-in, for which `params` are what to give to `login({ params })` (RFC 9470 3). Told
   * once for each access token and wish; the API's answer goes to whoever asked, too.
   */
  | {
      type: 'step-up'
      wants: 'scope' | 'authentication'
      scope?: string
      params: Record<string, string>
    }

/** What an app holds. It never handles a token. */
export interface TokenManager {
  /**
   * Resolves once the worker controls this page: from then on, requests carry tokens. Rejects
   * with a {@link TokenError} that says why not and what to do; a rejection that nobody handles
   * is not reported as unhandled. On a server it stays pending.
   */
  readonly ready: Promise<void>
  /** The session as stored, at once and offline too; undefined if nobody is signed in. */
  session(): Promise<Session | undefined>
  /**
   * Signs in: leaves for the authorization server and comes back to `returnTo`. Never resolves
   * on success, since the page is left.
   *
   * @param options.returnTo URL on this origin to come back to; default: this page, hash included
   * @param options.params More parameters for the authorization request (`prompt`, `login_hint`,
   *   `acr_values`, …)
   * @throws TokenError `cancelled` if the user comes Back, `invalid_input`, `login_loop`;
   *   `unsupported` inside a frame, where no sign-in page can be shown
   */
  login(options?: { returnTo?: string; params?: Record<string, string> }): Promise<never>
  /**
   * Asks the authorization server, in a hidden frame, whether it knows the user; signs in if so.
   * Undefined if it does not. Ends no session, unless the server knows another user.
   *
   * @throws TokenError `consent_required`, `interaction_required`, `account_selection_required`,
   *   `timeout`, `offline`, `silent_login_blocked`
   */
  checkSession(): Promise<Session | undefined>
  /**
   * Renews the access token now.
   *
   * @throws TokenError why that is not possible now; `signed_out` if nobody is signed in
   */
  renew(): Promise<void>
  /**
   * Signs out: forgets the tokens, tells every tab, revokes the refresh token and, unless
   * `local`, leaves for the authorization server to end the session there. Works offline.
   *
   * The page is left where the server can be reached and knows logout: then the promise settles
   * only if the user comes Back. Otherwise it resolves with `unknown`.
   *
   * @param options.returnTo URL on this origin to come to in the end; default: the app's root
   * @param options.local Sign out here only, and stay on this page unless `returnTo` is given
   */
  logout(options?: { returnTo?: string; local?: boolean }): Promise<{ server: 'ended' | 'unknown' }>
  /**
   * Calls `listener` with each change, in every tab. What this page begins with is reported to
   * the first listener: a sign-in that has just failed, or that one is needed.
   *
   * @returns A function that removes the listener; so does aborting `options.signal`
   */
  onChange(listener: (event: SessionEvent) => void, options?: { signal?: AbortSignal }): () => void
  /** Removes all listeners. The worker goes on. */
  close(): void
}

const toSessionEvent = (event: WireEvent): SessionEvent =>
  'error' in event ? { ...event, error: fromErrorData(event.error) } : event

/** A page without its own fragment got an empty one at the end of a sign-in: take it off again. */
const removeBareHash = () => {
  if (location.href.endsWith('#')) {
    history.replaceState(history.state, '', location.href.slice(0, -1))
  }
}

/** A URL relative to this page, made absolute; what is none is left for the worker to refuse. */
const absolute = (url: string): string =>
  URL.canParse(url, location.href) ? new URL(url, location.href).href : url

/** ms for a worker that could not be installed to say why. */
const reasonLimit = 1_000

/** ms after which a page that is still here is not being left any more. */
const leaveLimit = 5_000

/** Leaves the page. Settles only if it comes back from the back/forward cache. */
const leaveFor = (url: string): Promise<void> =>
  new Promise((resolve) => {
    const onShow = ({ persisted }: PageTransitionEvent) => {
      if (!persisted) return
      removeEventListener('pageshow', onShow)
      resolve()
    }
    addEventListener('pageshow', onShow)
    location.assign(url)
  })

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
): TokenManager => {
  const isBrowser = typeof document !== 'undefined'
  const listeners = new Set<(event: SessionEvent) => void>()
  /** How this page was landed on, and that it is asked for a sign-in, until somebody listens. */
  const untold: SessionEvent[] = []
  /** What listeners know of; null until it is known what was there before them. */
  let last: Session | undefined | null = null
  /** Have they been asked for a sign-in, and has none of it come yet? */
  let asked: boolean | undefined
  let configurationError: TokenError | undefined
  let tellReason = () => {}
  const reasonTold = new Promise<void>((resolve) => {
    tellReason = resolve
  })
  let leaving: Promise<never> | undefined
  let greeted = () => {}
  /** From then on it is known how this page was landed on, and whether somebody is signed in. */
  const whenGreeted = new Promise<void>((resolve) => {
    greeted = resolve
  })

  const emit = (event: SessionEvent) => {
    for (const listener of listeners) {
      try {
        listener(event)
      } catch (error) {
        // One listener that throws must not keep the event from the others.
        reportError(error)
      }
    }
  }

  const onEvent = (wire: WireEvent) => {
    // Until it is known which worker is ours, any of this origin may say it; `catchUp` comes later.
    if (!registration && wire.type !== 'problem') return
    const event = toSessionEvent(wire)
    if (event.type === 'problem' && event.error.code === 'invalid_configuration') {
      configurationError = event.error
      tellReason()
    }
    if ('session' in event && event.session) last = event.session
    if (event.type === 'signed-out') last = undefined
    if (!/state|problem|step-up/.test(event.type)) asked = event.type === 'login-required'
    emit(event)
  }

  let registration: ServiceWorkerRegistration | undefined
  /** Every worker the registration has had: one that failed to install may still say why. */
  const workers = new Set<MessageEventSource | null>()
  const meetWorkers = () => {
    for (const which of ['active', 'waiting', 'installing'] as const) {
      if (registration?.[which]) workers.add(registration[which])
    }
  }
  const registering = isBrowser
    ? findRegistration(scriptUrl, options).then((found) => {
        registration = found
        meetWorkers()
        found.addEventListener('updatefound', meetWorkers)
        return found
      })
    : new Promise<ServiceWorkerRegistration>(() => {})
  registering.catch(() => {})

  const bridge = createWorkerBridge(
    async () => await whenActive(await registering),
    (source) => source !== null && (!registration || workers.has(source)),
    onEvent,
    options.authPath,
  )

  /** A page that was frozen or in the back/forward cache has missed events: ask, then tell. */
  const catchUp = async () => {
    const { session, loginRequired, ended = 'storage_cleared' } = await bridge.ask('session')
    // Not earlier: what an event has told meanwhile is no news.
    const before = last
    const wasAsked = asked
    last = session
    asked = loginRequired
    const isOther = session?.claims['sub'] !== before?.claims['sub']
    const isRenewed = session?.accessTokenExpiresAt !== before?.accessTokenExpiresAt
    if (before && (!session || isOther)) {
      emit({ type: 'signed-out', reason: session ? 'user_changed' : ended })
    }
    if (session && before !== null) {
      if (session.since !== before?.since) emit({ type: 'signed-in', session })
      else if (session.state === 'fresh' && isRenewed) emit({ type: 'renewed', session })
      else if (session.state !== before.state) emit({ type: 'state', session })
    }
    if (loginRequired && !wasAsked) {
      const error = new TokenError('login_required', 'The user has to sign in.')
      untold.push({ type: 'login-required', error, session })
      tellUntold()
    }
  }
  const onVisible = () => {
    if (document.visibilityState === 'visible') catchUp().catch(() => {})
  }
  const onOnline = () => {
    bridge.ask('online').catch(() => {})
  }
  let channel = ''
  let announcements: BroadcastChannel | undefined
  let isClosed = false
  // Also on leaving: a message would make the browser drop the page from its back/forward cache.
  const stopHearing = () => announcements?.close()
  let hints = 0
  /** One question at a time and one more after it, however many hints there are. */
  const onHint = async () => {
    if (hints++) return
    while (hints) {
      hints = 1
      await catchUp().catch(() => {})
      hints--
    }
  }
  /** Workers with other scopes share the session, but tell only their own pages what happens. */
  const hearOthers = () => {
    stopHearing()
    if (isClosed) return
    announcements = new BroadcastChannel(channel)
    // A hint only, since any script could send it: the worker says what is true.
    announcements.onmessage = ({ data }) => {
      if (data?.scope !== registration?.scope) onHint()
    }
  }
  const onShow = ({ persisted }: PageTransitionEvent) => {
    if (!persisted) return
    hearOthers()
    catchUp().catch(() => {})
  }

  /** Did the worker answer, or did somebody else, before it or instead of it? */
  const probe = async (url: string) => {
    const response = await fetch(url, { cache: 'no-store' }).catch(() => undefined)
    if (response?.headers.has('x-tokenward')) return
    throw new TokenError(
      'worker_order',
      "Another fetch listener of the service worker answers before tokenward's. Call " +
        'createTokenWorker(…).listen() at the top of the worker script, before Workbox or any ' +
        'other code adds a listener.',
    )
  }

  const setUp = async (): Promise<void> => {
    if (!isBrowser) return await new Promise(() => {})
    removeBareHash()
    addEventListener('pageshow', onShow)
    addEventListener('pagehide', stopHearing)
    document.addEventListener('visibilitychange', onVisible)
    addEventListener('online', onOnline)
    const found = await registering
    await whenActive(found)
    const hello = await bridge.ask('hello').catch((error: TokenError) => {
      if (error.code !== 'worker_timeout') throw error
      throw new TokenError(
        'no_token_worker',
        `The service worker ${found.active?.scriptURL} does not contain tokenward, or an old ` +
          'version without it is still active: close all tabs of the app, or reload.',
      )
    })
    channel = hello.channel
    hearOthers()
    if (hello.landed) countRound()
    if (hello.landing) {
      untold.push({ type: 'problem', error: fromErrorData(hello.landing) })
      tellUntold()
    }
    await catchUp()
    greeted()
    await whenControlled(found, () => bridge.ask('claim'))
    await probe(hello.probeUrl)
  }

  /** What changes something waits until the page is shown, and is not for a server. */
  const inBrowser = async () => {
    if (!isBrowser) throw new TokenError('unsupported', 'Nobody signs in on a server.')
    await whenShown()
  }

  const tellUntold = () => {
    if (listeners.size === 0) return
    for (const event of untold.splice(0)) {
      // A token may have come since.
      if (event.type !== 'login-required' || asked) emit(event)
    }
  }

  const ready = setUp().catch(async (cause) => {
    greeted()
    const error = asTokenError(
      cause,
      'worker_script_failed',
      'The service worker could not be set up.',
    )
    // Before its installation fails, the worker says by name what is wrong with its options; but
    // nothing makes what it says arrive before the failure does.
    if (error.code === 'worker_script_failed' && registration) {
      await Promise.race([reasonTold, new Promise((late) => setTimeout(late, reasonLimit))])
    }
    throw configurationError ?? error
  })
  ready.catch(() => {})

  return {
    ready,

    session: async () => (isBrowser ? (await bridge.ask('session')).session : undefined),

    login: (input = {}) => {
      if (leaving) return leaving
      const attempt = (async (): Promise<never> => {
        await inBrowser()
        await whenGreeted
        if (!last && isLoop()) {
          throw new TokenError(
            'login_loop',
            'Sign-ins come back without success and begin again by themselves. Wait for a click.',
          )
        }
        const returnTo = absolute(input.returnTo ?? location.href)
        const { url } = await bridge.ask('login', {
          returnTo,
          params: input.params,
        })
        await leaveFor(url)
        throw new TokenError('cancelled', 'The user came back without signing in.')
      })()
      leaving = attempt
      const settle = () => {
        if (leaving === attempt) leaving = undefined
      }
      attempt.catch(settle)
      // The user may have stopped the browser on its way: the button has to work again.
      setTimeout(settle, leaveLimit)
      return attempt
    },

    checkSession: async () => {
      await inBrowser()
      return (await bridge.ask('checkSession')).session
    },

    renew: async () => {
      await inBrowser()
      await bridge.ask('renew')
    },

    logout: async (input = {}) => {
      await inBrowser()
      const { returnTo, local } = input
      const { url, atServer } = await bridge.ask('logout', {
        returnTo: returnTo === undefined ? returnTo : absolute(returnTo),
        local,
      })
      if (url === undefined) return { server: 'unknown' }
      if (!atServer) {
        // Offline, the app's root may be a page that the browser cannot show.
        if (returnTo !== undefined || navigator.onLine) location.assign(url)
        return { server: 'unknown' }
      }
      await leaveFor(url)
      return await bridge.ask('logoutOutcome', { url })
    },

    onChange: (listener, { signal } = {}) => {
      const remove = () => listeners.delete(listener)
      if (signal?.aborted) return () => {}
      listeners.add(listener)
      signal?.addEventListener('abort', remove)
      queueMicrotask(tellUntold)
      return remove
    },

    close: () => {
      isClosed = true
      listeners.clear()
      bridge.close()
      if (!isBrowser) return
      removeEventListener('pageshow', onShow)
      removeEventListener('pagehide', stopHearing)
      document.removeEventListener('visibilitychange', onVisible)
      removeEventListener('online', onOnline)
      stopHearing()
    },
  }
}
