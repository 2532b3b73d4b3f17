import { asTokenError, TokenError, toErrorData } from '../src/shared/errors.js'
import type {
  SessionReport,
  SignedOutReason,
  WireEvent,
  WorkerCalls,
} from '../src/shared/protocol.js'
import { endpointOf } from './http/server-path.js'
import type { ApiDoor } from './offline/api-part.js'
import { type Config, parseOptions, type TokenWorkerOptions } from './options/options.js'
import { createPageBridge, type PageBridge } from './page-bridge.js'
import { browserPlatform, type Platform } from './platform.js'
import { createApiRequest, type RequestContext } from './request/api-request.js'
import { createCancellation } from './request/cancellation.js'
import { createIntercept, type Interception } from './request/intercept.js'
import type { StaticRoutes } from './request/static-routes.js'
import { createAuthorizationServer } from './server/authorization-server.js'
import { createSession } from './session/session.js'
import { createStore } from './session/store.js'
import { emptyPage, probeAnswer, redirectBack, refusal } from './sign-in/auth-response.js'
import { createLogin, type Visit } from './sign-in/login.js'
import { createLogout } from './sign-in/logout.js'
import { createTransactions } from './sign-in/transactions.js'
import { withTimeLimit } from './time-limit.js'
import { createAccessToken, ownerOf } from './token/access-token.js'
import { createRefresh } from './token/refresh.js'
import { createSilentLogin } from './token/silent-login.js'
import type { Note } from './trace.js'
import { createOrderCheck } from './worker-order.js'

declare const self: ServiceWorkerGlobalScope

/** The token worker: tokenward's part of a service worker. */
export interface TokenWorker {
  /**
   * Adds the listeners for `fetch`, `message`, `install` and `activate`. Call it before anything
   * else in the worker adds a `fetch` listener: the first one that answers wins.
   *
   * `claim`: also take control of pages that were open before this worker became active.
   * Default false: a page that waits for `ready` asks for that by itself.
   *
   * `staticRoutes`: `staticRoutes()`, in a worker that does nothing else with requests: then only
   * those that may be tokenward's reach it.
   */
  listen(options?: { claim?: boolean; staticRoutes?: StaticRoutes }): void
  /**
   * For workers with a router of their own: answers a `fetch` or `message` event if it is
   * tokenward's, and says whether it was. Must be called synchronously, for both kinds.
   */
  handle(event: FetchEvent | ExtendableMessageEvent): boolean
  /**
   * Fetches with the access token if the request belongs to a configured API, without it
   * otherwise. For handlers and plugins that fetch by themselves.
   */
  fetch(request: Request): Promise<Response>
}

/** ms that the caches of a user may take to be deleted, before pages hear of the end regardless. */
const forgetLimit = 3_000

/** Of an event that brings no client, nobody knows who sent the request. */
const contextOf = (event: Pick<ExtendableEvent, 'waitUntil'>): RequestContext => ({
  clientId: 'clientId' in event ? (event.clientId as string) : '',
  keepAlive: (work) => event.waitUntil(work.catch(() => {})),
})

/** The parts, in the order of the data flow. The simulation makes stores that it has broken. */
export const assemble = (
  config: Config,
  platform: Platform,
  bridge: Pick<PageBridge, 'call' | 'tellAll'>,
  makeStore: typeof createStore = createStore,
) => {
  const { authUrls, root } = config
  const { now } = platform
  const { trace } = config
  const note: Note | undefined = trace && ((step, more) => trace({ at: now(), step, ...more }))
  const store = makeStore(config, platform, {
    lost: () => session.lost(),
    damaged: (error) => void session.tellProblem(error).catch(() => {}),
    orphaned: (refreshToken) => void server.revoke(refreshToken).catch(() => {}),
  })
  const dpop = config.dpop?.(store, platform, (error) => session.tellProblem(error))
  const apiParts = [...new Set(config.apis.flatMap(({ parts = [] }) => parts))]
  /** What the app has chosen may fail, and must not hold up the end of a session for long. */
  const forgetAll = (reason: SignedOutReason) =>
    withTimeLimit(platform.wait, forgetLimit, () =>
      Promise.allSettled(apiParts.map((part) => part.forget(reason))),
    )
  const forget = apiParts.length > 0 ? forgetAll : undefined
  const resume = () => Promise.allSettled(apiParts.map((part) => part.resume()))
  const tellAll = (event: WireEvent) => {
    // Not waited for: what was put off needs the token that this is about.
    if (event.type === 'renewed' || event.type === 'signed-in') void resume()
    return bridge.tellAll(event)
  }
  const session = createSession(store, root, platform, tellAll, note, dpop, forget)
  const server = createAuthorizationServer(config, store, platform, session.tellProblem, dpop)
  const transactions = createTransactions(store, now, server.randomValue, root)
  const silentLogin = createSilentLogin(
    {
      silentUrl: authUrls.silent,
      doneUrl: authUrls.done,
      root,
      limit: config.silentLoginTimeout,
    },
    transactions,
    session,
    bridge.call,
    platform,
    note,
  )
  const refresh = createRefresh(server, session, platform, note)
  const accessToken = createAccessToken(
    { ...config, lockName: `${store.name} renew` },
    session,
    refresh,
    silentLogin,
    platform,
  )
  const isProtocolEndpoint = (url: URL): boolean | undefined => {
    const record = session.peek()
    // A worker that has just been started knows no metadata yet, but the record does.
    const stored = record?.status === 'active' ? record.protocolEndpoints : []
    const known = server.protocolEndpoints()
    // Every request comes by here, so spellings are compared only where an endpoint could be. A
    // script may have written anything into the record.
    const near = [...known, ...stored].filter(
      (each) => typeof each === 'string' && each.startsWith(url.origin),
    )
    if (near.length > 0 && near.includes(endpointOf(url))) return true
    // What a script has written can add endpoints, but does not tell all.
    return known.length > 0 ? false : undefined
  }

  /** A page's call at the server: nothing there that the worker does is for pages to do. */
  const pageCall = async (request: Request, url: URL): Promise<Response> => {
    // Where the disk fails, too, a page's own business goes on.
    await Promise.all([server.recallEndpoints(), session.read()]).catch(() => {})
    return isProtocolEndpoint(url) ? refusal() : await platform.fetch(request)
  }
  const intercept = createIntercept(config, isProtocolEndpoint)
  const cancellation = createCancellation()
  const apiRequest = createApiRequest(
    accessToken,
    isProtocolEndpoint,
    platform,
    bridge.tellAll,
    cancellation.signalOf,
    note,
    dpop,
  )
  const door: ApiDoor = {
    name: store.name,
    scope: root,
    begin: (request, event) => {
      const what = intercept(request)
      return what?.kind === 'api' ? apiRequest(request, what.rule, contextOf(event)) : undefined
    },
    user: async () => {
      const record = await session.read()
      return record?.status === 'active' ? ownerOf(record) : undefined
    },
    exclusively: (name, work) => platform.lock(name, new AbortController().signal, work),
    isCancelled: (request) =>
      request.signal.aborted || cancellation.signalOf(request)?.aborted === true,
    now,
    wait: platform.wait,
  }
  for (const part of apiParts) part.connect(door)
  const login = createLogin(config, server, transactions, session, platform, note, dpop)
  const logout = createLogout(config, server, transactions, session)
  let checking: Promise<SessionReport> | undefined

  /** Asks the authorization server by a hidden frame whether it knows the user. */
  const checkSession = (page: string): Promise<SessionReport> =>
    accessToken.exclusively(async () => {
      const outcome = await silentLogin({
        purpose: 'check',
        page,
        record: await session.readAgain(),
      })
      if (outcome.kind === 'signed-in') return session.report(outcome.record)
      if (outcome.kind === 'superseded') return session.report(await session.readAgain())
      if (outcome.error.code === 'login_required') return {}
      throw outcome.error
    })

  const callsFor = (pageId: string, keepAlive: (work: Promise<unknown>) => void): WorkerCalls => ({
    hello: async () => {
      keepAlive(resume())
      const landing = await login.landing(pageId).catch(() => undefined)
      return { probeUrl: authUrls.done, channel: store.name, ...landing }
    },
    claim: () => platform.pages.claim(),
    session: async () => session.report(await session.readAgain()),
    login: async (input) => {
      const open = await platform.pages.list(root)
      // Servers have to forbid it (RFC 9700 4.16), so the frame would only go blank.
      if (open.find(({ id }) => id === pageId)?.topLevel === false) {
        throw new TokenError('unsupported', 'No sign-in inside a frame: call login() around it.')
      }
      return await login.begin(input)
    },
    checkSession: () => {
      checking ??= checkSession(pageId).finally(() => {
        checking = undefined
      })
      return checking
    },
    renew: async () => {
      const record = await session.readAgain()
      const spoiled = record?.status === 'active' ? record.accessToken : undefined
      const result = await accessToken.renew(spoiled, false)
      if (result.kind === 'unavailable') throw result.error
      if (result.kind !== 'token') throw new TokenError('signed_out', 'Nobody is signed in.')
    },
    // Answered at once: the page has nothing to do but to go on.
    online: async () =>
      keepAlive(
        accessToken
          .backOnline()
          .catch(() => {})
          .then(resume),
      ),
    logout: (input) => logout.begin(input, keepAlive),
    logoutOutcome: ({ url }) => logout.outcome(url),
  })

  const visit = (what: Interception & { kind: 'auth-navigation' }, to: Visit) => {
    // A form that posts to an auth page is no answer that anybody asked for.
    if (to.request.method !== 'GET' && what.page !== 'callback') return redirectBack(root)
    switch (what.page) {
      case 'login':
      case 'silent':
        return login.leave(to, what.page)
      case 'callback':
        return login.arrive(to)
      case 'done':
        return login.finish()
      case 'logout':
        return logout.visit(to.url)
    }
  }

  const tidy = async () => {
    await store.tidy(authUrls.login)
    if (!forget) return
    // A worker may have been stopped right after the session's end.
    const record = await session.read()
    if (record?.status === 'ended') await forget(record.reason)
  }

  const order = createOrderCheck(Object.values(authUrls))

  return { intercept, pageCall, apiRequest, cancellation, callsFor, visit, tidy, order, config }
}

/**
 * Creates the token worker. Synchronous, and safe to call at the top of a worker script: it does
 * no I/O, and wrong options do not throw, because a script that throws would leave the answers of
 * the authorization server to the network. Instead they are written to the console, no request
 * gets a token, pages learn of it through `ready`, and, with `listen()`, the installation fails,
 * so that a worker which is already there stays.
 *
 * @param options What to sign in to, and which APIs get the token
 * @param platform The outside world; tests hand in their own
 */
export const createTokenWorker = (
  options: TokenWorkerOptions,
  platform: Platform = browserPlatform,
): TokenWorker => {
  const bridge = createPageBridge(platform, options?.authPath)
  let wrong: TokenError | undefined
  let parts: ReturnType<typeof assemble> | undefined
  try {
    parts = assemble(parseOptions(options, platform.scope()), platform, bridge)
  } catch (cause) {
    wrong = asTokenError(cause, 'invalid_configuration', 'createTokenWorker failed.')
    console.error(wrong)
  }

  /** Where the options are wrong, every call of a page gets to know why. */
  const refuse = () => new Proxy({} as WorkerCalls, { get: () => () => Promise.reject(wrong) })

  const answer = (what: Interception, event: FetchEvent, context: RequestContext) => {
    if (!parts) return Response.error()
    switch (what.kind) {
      case 'api': {
        const { cancellation, apiRequest } = parts
        return cancellation.during(event.request, () => {
          for (const part of what.rule.parts ?? []) {
            const answered = part.answer(event.request, event)
            if (answered) return answered
          }
          return apiRequest(event.request, what.rule, context).send()
        })
      }
      case 'endpoint':
        return parts.pageCall(event.request, what.url)
      case 'auth-subresource':
        if (what.page !== 'done') return refusal()
        return parts.order.isFirst() ? probeAnswer() : Response.error()
      case 'auth-navigation':
        return parts.visit(what, {
          url: what.url,
          request: event.request,
          pageId: event.resultingClientId,
        })
    }
  }

  /** By the default folder: an option that may be the wrong one is not asked. */
  const isAuthPage = (url: string): boolean =>
    url.startsWith(new URL('tokenward/', platform.scope()).href)

  const handleFetch = (event: FetchEvent): boolean => {
    if (parts?.order.takes(event)) return true
    // Wrong options, but an answer of the server may be on its way here: not to the network.
    const isLost = !parts && event.request.mode === 'navigate' && isAuthPage(event.request.url)
    if (isLost) event.respondWith(redirectBack(platform.scope()))
    const what = parts?.intercept(event.request)
    if (!what) return isLost
    const context = contextOf(event)
    // A navigation preload that nobody waits for is an error in the worker's console.
    if (what.kind === 'auth-navigation') context.keepAlive(Promise.resolve(event.preloadResponse))
    event.respondWith(
      (async () => await answer(what, event, context))().catch(() =>
        // For the page a rejection is the same network error, but the worker's console calls it
        // unhandled. An auth page must never reach the network from here.
        what.kind === 'api' || what.kind === 'endpoint'
          ? Response.error()
          : event.request.destination === 'iframe'
            ? emptyPage()
            : redirectBack(platform.scope()),
      ),
    )
    return true
  }

  let isTidy = false

  const handleMessage = (event: ExtendableMessageEvent): boolean => {
    const { tokenward, cancel } = event.data ?? {}
    // Every token worker of this script hears it: which one has the request is not said.
    if (tokenward && typeof cancel === 'string') {
      parts?.cancellation.cancel(cancel)
      return false
    }
    const isOurs = bridge.answer(event, parts?.callsFor ?? refuse)
    // A page has been opened: not in the way of a request, and never in a worker that waits.
    if (isOurs && parts && !isTidy) event.waitUntil(parts.tidy().catch(() => {}))
    isTidy ||= isOurs
    return isOurs
  }

  const handle = (event: FetchEvent | ExtendableMessageEvent): boolean =>
    'request' in event ? handleFetch(event) : handleMessage(event)

  return {
    handle,

    listen: ({ claim = false, staticRoutes } = {}) => {
      for (const type of ['fetch', 'message'] as const) {
        self.addEventListener(type, (event) => {
          if (handle(event)) event.stopImmediatePropagation()
        })
      }
      self.addEventListener('install', (event) => {
        // Without them the worker is asked more often, and that is all.
        if (parts && staticRoutes) {
          event.waitUntil(staticRoutes(parts.config, event).catch(() => {}))
        }
        if (!wrong) return
        const tell = bridge.tellAll({ type: 'problem', error: toErrorData(wrong) })
        event.waitUntil(tell.then(() => Promise.reject(wrong)))
      })
      self.addEventListener('activate', (event) => {
        if (claim) event.waitUntil(platform.pages.claim())
      })
    },

    fetch: async (request) => {
      const what = parts?.intercept(request)
      if (what?.kind !== 'api' || !parts) return await platform.fetch(request)
      const { cancellation, apiRequest } = parts
      // The caller keeps the worker alive; whatever goes on behind the answer may fail.
      const keepAlive = (work: Promise<unknown>) => void work.catch(() => {})
      const context = { clientId: '', keepAlive }
      return await cancellation.during(request, () =>
        apiRequest(request, what.rule, context).send(),
      )
    },
  }
}
