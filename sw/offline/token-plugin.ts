import type { ApiExchange } from '../request/api-request.js'
import type { ApiDoor, StrategyPlugin } from './api-part.js'

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

/** The name in the query of a key in the cache that says whose answer it is. */
const userParam = '__tokenward_user'

/** Strategies keep whole answers: a stream never ends, and a part is not the whole. */
const isForStrategy = ({ method, headers }: Request): boolean =>
  method === 'GET' &&
  !headers.has('range') &&
  headers.get('accept')?.includes('text/event-stream') !== true

/**
 * Makes a Workbox strategy one for an API with tokens; for `plugins` of the `strategy` of an entry
 * of `apis`. The token is attached when the strategy asks the network, not before, so that what is
 * in the cache is served at once; after a 401 the token is renewed and the request repeated. The
 * cache never sees a token. Each user has keys of their own in it, and when the session ends, the
 * whole cache goes: give the strategy a `cacheName` that nothing else uses. Only answers with
 * status 200 are kept.
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
  let door: ApiDoor | undefined

  const connected = (): ApiDoor => {
    if (door) return door
    throw new Error(
      'tokenPlugin(): this strategy is in no entry of `apis` (createTokenWorker), so it gets no ' +
        'token. Name it there as `strategy`.',
    )
  }

  /** Who is to see the answer: who the request was sent for, else who is signed in. */
  const userOf = async ({ state }: Pick<Callback, 'state'>): Promise<string> => {
    const exchange = state?.['exchange'] as ApiExchange | undefined
    return (exchange ? exchange.owner() : await connected().user()) ?? 'nobody'
  }

  return {
    partOf: (strategy) => ({
      connect: (given) => {
        if (door && door !== given) {
          throw new Error('Two workers share a tokenPlugin(). Make one for each.')
        }
        door = given
      },

      answer: (request, event) =>
        isForStrategy(request) ? strategy.handle({ request, event }) : undefined,

      forget: async () => {
        await caches.delete(strategy.cacheName)
        for (const plugin of strategy.plugins as Partial<Expiration>[]) {
          // It forgets only caches that it has met since the worker was started.
          plugin._getCacheExpiration?.(strategy.cacheName)
          await plugin.deleteCacheAndMetadata?.()
        }
      },

      resume: async () => {},
    }),

    requestWillFetch: async ({ request, event, state = {} }) => {
      const exchange = connected().begin(request, event)
      if (!exchange) return request
      const attached = await exchange.attach()
      state['exchange'] = exchange
      return attached
    },

    fetchDidSucceed: async ({ request, response, state }) => {
      const exchange = state?.['exchange'] as ApiExchange | undefined
      const settled = (await exchange?.settle(response, request)) ?? response
      // No token to be had now: for a strategy that is a network error, and not an answer.
      if (settled.type === 'error') throw new TypeError('There is no access token now.')
      return settled
    },

    cacheKeyWillBeUsed: async ({ request, mode, state }) => {
      const user = await userOf(mode === 'write' ? { state } : {})
      const { origin, pathname, search } = new URL(request.url)
      const query = `${search ? `${search}&` : '?'}${userParam}=${encodeURIComponent(user)}`
      // The headers are what `Vary` is compared with.
      return new Request(origin + pathname + query, { headers: request.headers })
    },

    cacheWillUpdate: async ({ response, state }) => {
      if (response.status !== 200) return
      // Signed out, or somebody else is in, since it was sent.
      const current = (await connected().user()) ?? 'nobody'
      return current === (await userOf({ state })) ? response : undefined
    },
  }
}
