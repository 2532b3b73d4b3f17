/**
 * What an app keeps of its API in a scope: a queue for its writes, and a cache, filled and read by
 * strategies that call their plugin in Workbox's order.
 */
import type { Waiting } from '../../sw/http/worker-events.js'
import type { ApiStrategy } from '../../sw/offline/api-part.js'
import { tokenPlugin } from '../../sw/offline/token-plugin.js'
import { tokenQueue } from '../../sw/offline/token-queue.js'
import type { ApiOptions } from '../../sw/options/options.js'
import type { Platform } from '../../sw/platform.js'
import { apiOrigin } from './network.js'
import type { Scheduler } from './scheduler.js'

/** Asks the network first, or serves what is in the cache while it does. */
export type StrategyKind = 'network first' | 'stale while revalidate'

interface Stored {
  status: number
  body: string
}

/** The caches of the origin. They outlive workers. */
export const createCaches = (scheduler: Scheduler) => {
  const all = new Map<string, Map<string, Stored>>()

  /** An answer of the browser: it comes later, and only to the living. */
  const later = <T>(label: string, value: () => T): Promise<T> => {
    const owner = scheduler.current()
    return new Promise((resolve) => {
      scheduler.add(`cache: ${label}`, () => resolve(value()), { owner })
    })
  }

  const open = (name: string) => {
    const entries = () => {
      const found = all.get(name) ?? new Map<string, Stored>()
      all.set(name, found)
      return found
    }
    return {
      match: ({ url }: Request) =>
        later('match', () => {
          const stored = entries().get(url)
          return stored && new Response(stored.body, { status: stored.status })
        }),
      put: async ({ url }: Request, response: Response) => {
        const { status } = response
        const body = await response.text()
        await later('put', () => void entries().set(url, { status, body }))
      },
      keys: () => later('keys', () => [...entries().keys()].map((url) => new Request(url))),
    }
  }

  return {
    open: async (name: string) => open(name),
    has: (name: string) => later('has', () => all.has(name)),
    delete: (name: string) => later('delete', () => all.delete(name)),
  }
}

type Caches = ReturnType<typeof createCaches>
type Event = Parameters<ApiStrategy['handle']>[0]['event'] & Waiting

const createStrategy = (
  { kind, cacheName, caches }: { kind: StrategyKind; cacheName: string; caches: Caches },
  fetch: Platform['fetch'],
): ApiStrategy => {
  const plugin = tokenPlugin()

  const ask = async (request: Request, event: Event): Promise<Response> => {
    const state = {}
    const sent = await plugin.requestWillFetch({ request: request.clone(), event, state })
    const answer = await fetch(sent)
    const response = await plugin.fetchDidSucceed({ request, response: answer, event, state })
    const kept = await plugin.cacheWillUpdate({ request, response: response.clone(), event, state })
    if (kept) {
      const key = await plugin.cacheKeyWillBeUsed({ request, event, state, mode: 'write' })
      await (await caches.open(cacheName)).put(key, kept)
    }
    return response
  }

  const look = async (request: Request, event: Event): Promise<Response | undefined> => {
    const key = await plugin.cacheKeyWillBeUsed({ request, event, state: {}, mode: 'read' })
    return await (await caches.open(cacheName)).match(key)
  }

  return {
    cacheName,
    plugins: [plugin],
    handle: async ({ request, event: raw }) => {
      const event = raw as Event
      if (kind === 'network first') {
        try {
          return await ask(request, event)
        } catch {
          return (await look(request, event)) ?? Response.error()
        }
      }
      const answer = ask(request, event)
      event.waitUntil(answer.catch(() => {}))
      return (await look(request, event)) ?? (await answer.catch(() => Response.error()))
    },
  }
}

/** The API of an app in one scope, for the options of a worker that is started. */
export const createOfflineApi = (
  offline: { strategy?: StrategyKind; queue: boolean },
  { scope, caches, fetch }: { scope: string; caches: Caches; fetch: Platform['fetch'] },
): ApiOptions => ({
  url: `${apiOrigin}/`,
  ...(offline.queue && { queue: tokenQueue('orders') }),
  ...(offline.strategy && {
    strategy: createStrategy(
      { kind: offline.strategy, cacheName: `orders ${scope}`, caches },
      fetch,
    ),
  }),
})
