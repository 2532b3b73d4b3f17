import type { ExtendableEvent } from '../http/worker-events.js'
import type { InterceptConfig } from './intercept.js'

/** What TypeScript does not know yet. @see https://w3c.github.io/ServiceWorker/#dictdef-routerrule */
interface RouterCondition {
  urlPattern?: URLPattern | URLPatternInit
  requestMethod?: string
  or?: RouterCondition[]
}

interface RouterRule {
  condition: RouterCondition
  source: 'fetch-event' | 'network'
}

interface RoutingInstallEvent extends ExtendableEvent {
  addRoutes?(rules: RouterRule | RouterRule[]): Promise<void>
}

type Routes<Config> = (config: Config, event: ExtendableEvent) => Promise<void>

/** What {@link staticRoutes} makes, for `listen()`. */
export type StaticRoutes = Routes<Pick<InterceptConfig, 'apis'>>

const addRoutes = async (event: RoutingInstallEvent, rules: RouterRule | RouterRule[]) =>
  await event.addRoutes?.(rules)

/**
 * Keeps visits of the auth pages off the network: while a browser starts the worker for one, it may
 * ask the network as well, with code and state in the URL. A route to the worker forbids that.
 */
export const routeAuthPages: Routes<Pick<InterceptConfig, 'authUrls'>> = ({ authUrls }, event) =>
  addRoutes(event, {
    condition: {
      or: Object.values(authUrls).map((baseURL) => ({ urlPattern: { baseURL, search: '*' } })),
    },
    source: 'fetch-event',
  })

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
  async ({ apis }, event) => {
    // What is ours decides `intercept.ts`: a pattern that covers too much costs time, and no more.
    const ours: RouterCondition[] = apis.map(({ origin, segments }) => ({
      urlPattern: new URLPattern({
        baseURL: origin,
        pathname: startingWith(`/${segments.join('/')}`),
      }),
    }))
    // A page's call of a token endpoint, wherever that is.
    ours.push({ requestMethod: 'POST' })
    await addRoutes(event, [
      { condition: { or: ours }, source: 'fetch-event' },
      { condition: { urlPattern: new URLPattern() }, source: 'network' },
    ])
  }
