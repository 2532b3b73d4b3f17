import { asTokenError, type TokenError, toErrorData } from '../src/shared/errors.js'
import type { AuthPage, WorkerCalls } from '../src/shared/protocol.js'
import { assemble, type Parts } from './assemble.js'
import { type Arrival, arrivalOf, isInFrame } from './http/arrival.js'
import type { ExtendableEvent, ExtendableMessageEvent, FetchEvent } from './http/worker-events.js'
import type { TokenWorkerOptions } from './options/options.js'
import { parseOptions } from './options/parse-options.js'
import { createPageBridge, type PageBridge } from './page-bridge.js'
import { browserPlatform, type Platform } from './platform.js'
import type { Interception } from './request/intercept.js'
import { routeAuthPages, type StaticRoutes } from './request/static-routes.js'
import { emptyPage, probeAnswer, redirectBack, refusal } from './sign-in/auth-response.js'
import { withTimeLimit } from './time-limit.js'
import { createOrderCheck, type OrderCheck } from './worker-order.js'

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
   * tokenward's, and says whether it was. Must be called synchronously, for both kinds. It needs
   * the `install` event too, which it never keeps from others: there it tells the browser that the
   * callback is the worker's alone.
   */
  handle(event: ExtendableEvent): boolean
  /**
   * Fetches with the access token if the request belongs to a configured API, without it
   * otherwise. For handlers and plugins that fetch by themselves.
   */
  fetch(request: Request): Promise<Response>
}

/** A worker whose options are right, or why they are wrong. */
type Start = { parts: Parts; order: OrderCheck } | { parts?: undefined; wrong: TokenError }

const start = (
  options: TokenWorkerOptions,
  { platform, bridge }: { platform: Platform; bridge: PageBridge },
): Start => {
  try {
    const config = parseOptions(options, platform.scope())
    const parts = assemble({ config, platform, bridge })
    return { parts, order: createOrderCheck(Object.values(config.authUrls)) }
  } catch (cause) {
    const wrong = asTokenError(cause, 'invalid_configuration', 'createTokenWorker failed.')
    console.error(wrong)
    return { wrong }
  }
}

/** Clears up, once in the life of a worker. */
const tidy = async ({ config, store, apiParts }: Parts): Promise<void> => {
  await store.tidy(config.authUrls.login).catch(() => {})
  // A session may have ended while the worker was not running.
  await apiParts.forget?.()
}

/** Answers fetch events; false if an event is not ours. */
const createFetchHandler =
  (started: Start, scope: () => string) =>
  (event: FetchEvent): boolean => {
    const { request } = event
    if (!started.parts) return catchAnswer(event, scope())
    const { parts, order } = started
    if (order.takes(event)) return true
    const url = new URL(request.url)
    const what = parts.intercept(request, url)
    if (!what) return false
    const arrival = arrivalOf(request, event, { url })
    // A navigation preload that is not awaited is an error in the worker's console.
    if (what.kind === 'auth-navigation') arrival.keepAlive(Promise.resolve(event.preloadResponse))
    const answer = async () => await answerOurs(started, { what, arrival, event })
    event.respondWith(answer().catch(() => failureOf(what, request, scope())))
    return true
  }

/**
 * The options are wrong, but an answer of the server may be on its way here: it must not reach the
 * network. By the default folder, since the option `authPath` may be the wrong one.
 */
const catchAnswer = (event: FetchEvent, scope: string): boolean => {
  const isAuthPage = event.request.url.startsWith(new URL('tokenward/', scope).href)
  const isLost = event.request.mode === 'navigate' && isAuthPage
  if (isLost) event.respondWith(goBack(event.request, scope))
  return isLost
}

/** Without the parts that know better: a frame ends here, a tab goes to the app. */
const goBack = (request: Request, scope: string): Response =>
  isInFrame(request) ? emptyPage() : redirectBack(scope)

/**
 * What a page gets for an error of ours. For the page a rejection is the same network error, but
 * the worker's console calls it unhandled. An auth page must never reach the network from here.
 */
const failureOf = ({ kind }: Interception, request: Request, scope: string): Response =>
  kind === 'api' || kind === 'endpoint' ? Response.error() : goBack(request, scope)

const answerOurs = (
  { parts, order }: Start & { parts: Parts },
  { what, arrival, event }: { what: Interception; arrival: Arrival; event: FetchEvent },
): Response | Promise<Response> => {
  switch (what.kind) {
    case 'api':
      return answerApi(parts, { rule: what.rule, arrival, event })
    case 'endpoint':
      return parts.endpoints.answer(arrival)
    case 'auth-subresource':
      if (what.page !== 'done') return refusal()
      return order.isFirst() ? probeAnswer() : Response.error()
    case 'auth-navigation':
      return answerVisit(parts, what.page, arrival)
  }
}

/** ms. Longer than all that a visit may wait for, one after the other. */
const visitLimit = 60_000

/** Answers the visit of an auth page. One that takes too long ends in the app, and goes on behind. */
const answerVisit = async (
  { authPages, connected: { platform } }: Parts,
  page: AuthPage,
  arrival: Arrival,
): Promise<Response> => {
  const visit = authPages(page, arrival)
  arrival.keepAlive(visit)
  const response = await withTimeLimit(platform.wait, visitLimit, () => visit)
  if (response) return response
  throw new DOMException('The visit took too long.', 'TimeoutError')
}

/** The first part of the API's entry that answers, else the API itself. */
const answerApi = (
  { cancellation, apiRequest }: Parts,
  {
    rule,
    arrival,
    event,
  }: { rule: (Interception & { kind: 'api' })['rule']; arrival: Arrival; event: FetchEvent },
): Promise<Response> => {
  const { request } = arrival
  return cancellation.during(request, async () => {
    for (const part of rule.parts ?? []) {
      const answered = part.answer(request, event)
      if (answered) return await answered
    }
    const cancelled = cancellation.signalOf(request)
    return (await apiRequest({ ...arrival, cancelled }, rule).send()).response
  })
}

/** Answers message events; false if an event is not ours. */
const createMessageHandler = (started: Start, bridge: PageBridge) => {
  let isTidy = false
  const { parts } = started
  const refuse = () =>
    // Every call gets the error that says what is wrong with the options.
    new Proxy({} as WorkerCalls, { get: () => () => Promise.reject((started as Refused).wrong) })
  return (event: ExtendableMessageEvent): boolean => {
    const { tokenward, cancel } = event.data ?? {}
    // Every token worker of this script gets it: it does not say whose request it is.
    if (tokenward && typeof cancel === 'string') {
      parts?.cancellation.cancel(cancel)
      return false
    }
    const isOurs = bridge.answer(event, parts?.pageCalls ?? refuse)
    // A page has been opened: not in the way of a request, and never in a worker that waits.
    if (isOurs && parts && !isTidy) event.waitUntil(tidy(parts).catch(() => {}))
    isTidy ||= isOurs
    return isOurs
  }
}

type Refused = Extract<Start, { wrong: TokenError }>

/** Prepares the browser for the worker that is being installed, or fails the installation. */
const createInstallHandler =
  (started: Start, bridge: PageBridge) =>
  (event: ExtendableEvent, staticRoutes?: StaticRoutes): false => {
    const install = async () => {
      if (started.parts) {
        const { config } = started.parts
        // One after the other: what is not the worker's must not be routed before what is.
        const routed = routeAuthPages(config, event).then(() => staticRoutes?.(config, event))
        // Without them the browser asks as it always did, and that is all.
        return await routed.catch(() => {})
      }
      await bridge.publish({ type: 'problem', error: toErrorData(started.wrong) })
      throw started.wrong
    }
    event.waitUntil(install())
    return false
  }

/**
 * Creates the token worker. Synchronous, and safe to call at the top of a worker script: it does
 * no I/O, and wrong options do not throw, because a script that throws would leave the answers of
 * the authorization server to the network. Instead the worker writes them to the console, gives
 * no request a token, tells pages through `ready`, and fails the installation, so that a worker
 * which is already there stays.
 *
 * @param options What to sign in to, and which APIs get the token
 * @param platform The outside world; tests hand in their own
 */
export function createTokenWorker(
  options: TokenWorkerOptions,
  platform: Platform = browserPlatform,
): TokenWorker {
  const bridge = createPageBridge({ platform, authPath: options?.authPath })
  const started = start(options, { platform, bridge })
  const handleFetch = createFetchHandler(started, () => platform.scope())
  const handleMessage = createMessageHandler(started, bridge)

  const handleInstall = createInstallHandler(started, bridge)

  const handle = (event: ExtendableEvent, routes?: StaticRoutes): boolean =>
    event.type === 'install'
      ? handleInstall(event, routes)
      : 'request' in event
        ? handleFetch(event as FetchEvent)
        : handleMessage(event as ExtendableMessageEvent)

  return {
    handle,

    listen: ({ claim = false, staticRoutes } = {}) => {
      for (const type of ['install', 'fetch', 'message'] as const) {
        self.addEventListener(type, (event) => {
          if (handle(event, staticRoutes)) event.stopImmediatePropagation()
        })
      }
      self.addEventListener('activate', (event) => {
        if (claim) event.waitUntil(platform.pages.claim())
      })
    },

    fetch: async (request) => {
      if (!started.parts) return await platform.fetch(request)
      const { cancellation, connected } = started.parts
      return await cancellation.during(request, async () => {
        const call = connected.begin(request)
        return call ? (await call.send()).response : await platform.fetch(request)
      })
    },
  }
}
