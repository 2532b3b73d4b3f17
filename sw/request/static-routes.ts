import type { ExtendableEvent } from '../http/worker-events.js'
import type { InterceptConfig } from './intercept.js'

/** What TypeScript does not know yet. @see https://w3c.github.io/ServiceWorker/#dictdef-routerrule */
interface RouterCondition {
  urlPattern?: URLPattern
  requestMethod?: string
  or?: RouterCondition[]
}

interface RoutingInstallEvent {
  addRoutes?(
    rules: { condition: RouterCondition; source: 'fetch-event' | 'network' }[],
  ): Promise<void>
}

/** What {@link staticRoutes} makes, for `listen()`. */
export type StaticRoutes = (
  config: Pick<InterceptConfig, 'apis' | 'authUrls'>,
  event: ExtendableEvent,
) => Promise<void>

/** The start of a path, as a pattern. */
const startingWith = (path: string): string => `${path.replace(/[\\:*?+(){}]/g, '\\$&')}*`

/**
 * For `listen({ staticRoutes: staticRoutes() })`: the browser asks the worker only about what may
 * be tokenward's, and sends everything else straight to the network, without starting the worker
 * for it (Static Routing API: Chrome and Edge 123, Safari 27; elsewhere nothing changes).
 *
 * Only for a worker that does nothing else with requests: other `fetch` listeners, those of
 * Workbox or of a second token worker, would get none of the rest any more.
 *
 * @example
 * createTokenWorker({ … }).listen({ claim: true, staticRoutes: staticRoutes() })
 */
export const staticRoutes =
  (): StaticRoutes =>
  async ({ apis, authUrls }, event) => {
    // What is ours decides `intercept.ts`: a pattern that covers too much costs time, and no more.
    const patterns = [
      ...Object.values(authUrls).map((baseURL) => ({ baseURL, search: '*' })),
      ...apis.map(({ origin, segments }) => ({
        baseURL: origin,
        pathname: startingWith(`/${segments.join('/')}`),
      })),
    ]
    const ours: RouterCondition[] = patterns.map((init) => ({ urlPattern: new URLPattern(init) }))
    // A page's call of a token endpoint, wherever that is.
    ours.push({ requestMethod: 'POST' })
    await (event as RoutingInstallEvent).addRoutes?.([
      { condition: { or: ours }, source: 'fetch-event' },
      { condition: { urlPattern: new URLPattern() }, source: 'network' },
    ])
  }
