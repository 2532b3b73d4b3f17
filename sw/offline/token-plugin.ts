import type { ExtendableEvent } from '../http/worker-events.js'
import { singleFlight } from '../single-flight.js'
import { must } from '../values/must.js'
import type { ApiStrategy, ConnectedWorker, Present, StrategyPlugin } from './api-part.js'
import { type AttachedRequest, attach } from './attached-request.js'

/** What Workbox hands to each callback of a plugin; `state` lasts as long as one request. */
interface Callback {
  request: Request
  event: ExtendableEvent
  state?: Record<string, unknown>
}

/** The plugin that {@link tokenPlugin} makes, for `plugins` of a Workbox strategy. */
export interface TokenPlugin extends StrategyPlugin {
  requestWillFetch(callback: Callback): Promise<Request>
  fetchDidSucceed(callback: Callback & { response: Response }): Promise<Response>
  cacheKeyWillBeUsed(callback: Callback & { mode: string }): Promise<Request>
  cacheWillUpdate(callback: Callback & { response: Response }): Promise<Response | undefined>
}

/** ExpirationPlugin of Workbox 7, which keeps a list of the URLs in the cache. */
interface Expiration {
  _getCacheExpiration(cacheName: string): unknown
  deleteCacheAndMetadata(): Promise<void>
}

/**
 * The name in the query of a key in the cache that says whose answer it is, and after which end of
 * a session it was asked for: an answer from before that is never found again.
 */
const userParam = '__tokenward_user'

const holderOf = ({ user = 'nobody', lastEnd }: Present): string =>
  encodeURIComponent(lastEnd === undefined ? user : `${user}.${lastEnd}`)

/** Does this key in the cache belong to a time before the last end of a session? */
const isFromBefore = ({ url }: Request, { lastEnd }: Present): boolean => {
  const [, holder] = url.split(`${userParam}=`)
  return holder !== undefined && holder.split('.')[1] !== lastEnd
}

/** Strategies keep whole answers: a stream never ends, and a part is not the whole. */
const isForStrategy = ({ method, headers }: Request): boolean =>
  method === 'GET' &&
  !headers.has('range') &&
  headers.get('accept')?.includes('text/event-stream') !== true

/**
 * Makes a Workbox strategy one for an API with tokens; for `plugins` of the `strategy` of an entry
 * of `apis`. The token is attached when the strategy asks the network, not before, so that what is
 * in the cache is served at once; after a 401 the token is renewed and the request repeated. The
 * cache never sees a token. Each user has keys of their own in it, and new ones after the end of a
 * session. Then the whole cache goes: give the strategy a `cacheName` that nothing else uses. Only
 * answers with status 200 are kept.
 *
 * Put it last, after plugins that change requests or keys.
 *
 * @example
 * createTokenWorker({
 *   issuer,
 *   clientId,
 *   apis: [
 *     {
 *       url: '/api/notes',
 *       strategy: new NetworkFirst({ cacheName: 'notes', plugins: [tokenPlugin()] }),
 *     },
 *   ],
 * }).listen({ claim: true })
 *
 * @see https://developer.chrome.com/docs/workbox/using-plugins
 */
export const tokenPlugin = (): TokenPlugin => {
  let worker: ConnectedWorker | undefined

  const connected = (): ConnectedWorker => {
    if (worker) return worker
    throw new Error(
      'tokenPlugin(): this strategy is in no entry of `apis` (createTokenWorker), so it gets no ' +
        'token. Name it there as `strategy`.',
    )
  }

  /** Who may see the answer: the user it was sent for, else the one who is signed in. */
  const holderIn = async (state: Callback['state']): Promise<string> =>
    (state?.['holder'] as string | undefined) ?? holderOf(await connected().present())

  let forget = async () => {}

  const plugin: TokenPlugin = {
    partOf: (strategy) => {
      keepUsersApart(strategy, plugin)
      forget = createForget(strategy, () => connected().present())
      return {
        connect: (given) => {
          if (worker && worker !== given) {
            throw new Error('Two workers share a tokenPlugin(). Make one for each.')
          }
          worker = given
        },

        answer: (request, event) =>
          isForStrategy(request) ? strategy.handle({ request, event }) : undefined,

        forget: () => forget(),

        resume: async () => {},
      }
    },

    requestWillFetch: async ({ request, event, state = {} }) => {
      const call = connected().begin(request, event)
      if (!call) return request
      // Before the token is asked for: an answer to a token of before an end is from before it.
      const { lastEnd } = await connected().present()
      const attached = await attach(call, request)
      Object.assign(state, { attached, holder: holderOf({ user: attached.owner, lastEnd }) })
      return attached.request
    },

    fetchDidSucceed: async ({ request, response, state }) => {
      const settled = (await attachedIn(state)?.settle(response, request)) ?? response
      // For a strategy, no token now is a network error, and not an answer.
      if (settled.type === 'error') throw new TypeError('There is no access token now.')
      return settled
    },

    cacheKeyWillBeUsed: async ({ request, mode, state }) => {
      if (mode === 'read') await forget().catch(() => {})
      const holder = await holderIn(mode === 'write' ? state : undefined)
      const { origin, pathname, search } = new URL(request.url)
      const query = `${search ? `${search}&` : '?'}${userParam}=${holder}`
      // The cache compares the headers that `Vary` names.
      return new Request(origin + pathname + query, { headers: request.headers })
    },

    cacheWillUpdate: async ({ response, state }) => {
      if (response.status !== 200) return
      // Signed out since it was sent, or another user is in.
      return (await holderIn(undefined)) === (await holderIn(state)) ? response : undefined
    },
  }
  return plugin
}

/** Refuses a strategy with which users could get each other's data. */
const keepUsersApart = (strategy: ApiStrategy, plugin: TokenPlugin): void => {
  const { plugins, matchOptions, cacheName } = strategy
  const behind = plugins.slice(plugins.indexOf(plugin) + 1)
  const name = `apis: strategy "${cacheName}"`
  // A later plugin that changes keys may take off whose they are.
  must(
    !behind.some((each) => 'cacheKeyWillBeUsed' in each || 'requestWillFetch' in each),
    `${name}: tokenPlugin()`,
    'must come after plugins that change requests or keys.',
  )
  // The query of the keys tells users apart.
  must(
    !matchOptions?.ignoreSearch,
    `${name}: ignoreSearch`,
    "must not be set: users could get each other's data.",
  )
}

const attachedIn = (state: Callback['state']): AttachedRequest | undefined =>
  state?.['attached'] as AttachedRequest | undefined

/** Deletes the whole cache of a strategy if there is anything of before the last end in it. */
const createForget = (
  { cacheName, plugins }: ApiStrategy,
  present: () => Promise<Present>,
): (() => Promise<void>) => {
  /** The last end of which the cache is known to have nothing any more. */
  let cleared: string | null | undefined = null
  const clear = singleFlight(async (now: Present) => {
    if (await caches.has(cacheName)) {
      const keys = await (await caches.open(cacheName)).keys()
      if (keys.some((key) => isFromBefore(key, now))) {
        await caches.delete(cacheName)
        for (const plugin of plugins as Partial<Expiration>[]) {
          // It forgets only caches that it has met since the worker was started.
          plugin._getCacheExpiration?.(cacheName)
          await plugin.deleteCacheAndMetadata?.()
        }
      }
    }
    cleared = now.lastEnd
  })
  return async () => {
    const now = await present()
    if (now.lastEnd !== cleared) await clear(now)
  }
}
