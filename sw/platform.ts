/**
 * The outside world of the worker, the one parameter besides the options. Tests and simulations
 * hand in their own; nothing else in sw/ touches a clock, a timer, the network or a page.
 */

/** An open page, as far as the worker can know it. */
export interface Page {
  id: string
  /** Not inside a frame. */
  topLevel: boolean
  visible: boolean
  focused: boolean
  /** Posts to the page, if it still exists. */
  post(message: unknown, transfer?: Transferable[]): void
}

export interface Platform {
  /** Scope URL of the worker's registration. */
  scope(): string
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>
  /** Wall clock, ms since 1970. It can jump. */
  now(): number
  /** Resolves after `ms`; rejects with the signal's reason once that is aborted. */
  wait(ms: number, signal?: AbortSignal): Promise<void>
  /** A number from 0 up to 1, for jitter. Secrets come from oauth4webapi. */
  random(): number
  /** Runs `work` while no other worker or page of this origin holds the lock `name`. */
  lock<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T>
  /** A channel to the other workers of this origin. */
  channel(name: string, onMessage: (data: unknown) => void): { post(data: unknown): void }
  /** False only where the browser is sure that there is no network. */
  online(): boolean
  pages: {
    /** The open pages of this origin inside `scope`, whether controlled or not. */
    list(scope: string): Promise<Page[]>
    /** Does the page or worker that sent a request still exist? */
    exists(id: string): Promise<boolean>
    /** Takes control of all pages in the worker's scope. */
    claim(): Promise<void>
  }
}

declare const self: ServiceWorkerGlobalScope

const toPage = (client: WindowClient): Page => ({
  id: client.id,
  topLevel: client.frameType === 'top-level',
  visible: client.visibilityState === 'visible',
  focused: client.focused,
  post: (message, transfer = []) => client.postMessage(message, transfer),
})

// Each is wrapped, not copied, so that what the browser or a test puts there later is used.
export const browserPlatform: Platform = {
  scope: () => self.registration.scope,
  fetch: (input, init) => fetch(input, init),
  now: () => Date.now(),
  wait: (ms, signal) =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const timer = setTimeout(resolve, ms)
      signal?.addEventListener('abort', () => {
        clearTimeout(timer)
        reject(signal.reason)
      })
    }),
  random: () => Math.random(),
  lock: async (name, signal, work) => await navigator.locks.request(name, { signal }, work),
  channel: (name, onMessage) => {
    const channel = new BroadcastChannel(name)
    channel.onmessage = ({ data }) => onMessage(data)
    return { post: (data) => channel.postMessage(data) }
  },
  online: () => navigator.onLine,
  pages: {
    list: async (scope) => {
      const clients = await self.clients.matchAll({ type: 'window', includeUncontrolled: true })
      return clients.filter(({ url }) => url.startsWith(scope)).map(toPage)
    },
    exists: async (id) => (await self.clients.get(id)) !== undefined,
    claim: () => self.clients.claim(),
  },
}
