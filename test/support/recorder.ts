// Records whatever a page script of the app could ever see, to look for secrets in it.
import type { BrowserContext, Page } from 'playwright-core'

/** Something that a page script could have seen, and where. */
export interface Sighting {
  where: string
  text: string
}

declare global {
  interface Window {
    record: (where: string, text: string) => void
    /** Global names at the start of the document, before any script of the page. */
    firstNames: Set<string>
  }
}

/** Runs in every document of the app before its own scripts do. */
const watchPage = (origin: string) => {
  if (location.origin !== origin) return
  window.firstNames = new Set(Object.getOwnPropertyNames(window))
  const record = (where: string, value: unknown) => {
    const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
    window.record(where, text)
  }
  const before = <T extends object>(target: T, name: keyof T, look: (args: unknown[]) => void) => {
    const real = target[name] as (...args: unknown[]) => unknown
    target[name] = function (this: unknown, ...args: unknown[]) {
      look(args)
      return real.apply(this, args)
    } as T[keyof T]
  }

  record('location', location.href)
  record('referrer', document.referrer)
  navigation.addEventListener('navigate', (event) =>
    record('location', (event as Event & { destination: { url: string } }).destination.url),
  )
  for (const name of ['pushState', 'replaceState'] as const) {
    before(history, name, (args) => record('history', args))
  }
  before(Storage.prototype, 'setItem', (args) => record('web storage', args))

  const watchPort = (port: MessagePort) =>
    port.addEventListener('message', ({ data }) => record('message', data))
  const RealChannel = MessageChannel
  window.MessageChannel = class extends RealChannel {
    constructor() {
      super()
      watchPort(this.port1)
    }
  }
  const onMessage = ({ data, ports }: MessageEvent) => {
    record('message', data)
    for (const port of ports) watchPort(port)
  }
  addEventListener('message', onMessage)
  navigator.serviceWorker.addEventListener('message', onMessage)
  before(ServiceWorker.prototype, 'postMessage', ([data]) => record('message', data))
  before(MessagePort.prototype, 'postMessage', ([data]) => record('message', data))

  const realFetch = window.fetch
  window.fetch = async (...args) => {
    const response = await realFetch(...args)
    record('response', [response.url, ...response.headers])
    record('response', await response.clone().text())
    return response
  }

  new PerformanceObserver((list) => record('performance', list.getEntries())).observe({
    entryTypes: PerformanceObserver.supportedEntryTypes as string[],
  })

  /** Looks where a frame is, as often as the browser lets it. */
  const watchFrame = (frame: HTMLIFrameElement) => {
    let last: string | undefined
    const look = () => {
      try {
        const url = frame.contentWindow?.location.href
        if (url !== last) record('frame', url)
        last = url
      } catch {
        last = undefined
      }
      if (frame.isConnected) setTimeout(look)
    }
    frame.addEventListener('load', look)
    look()
  }
  new MutationObserver((records) => {
    for (const node of records.flatMap(({ addedNodes }) => [...addedNodes])) {
      if (node instanceof Element) record('document', node.outerHTML)
      if (node instanceof HTMLIFrameElement) watchFrame(node)
    }
  }).observe(document, { childList: true, subtree: true })
}

/** What there is to see in the page right now, of what no event tells. */
const lookAround = async (ownDatabase: string): Promise<Sighting[]> => {
  const seen: Sighting[] = []
  const see = (where: string, value: unknown) =>
    seen.push({ where, text: typeof value === 'string' ? value : (JSON.stringify(value) ?? '') })

  see('location', location.href)
  see(
    'location',
    navigation.entries().map((entry) => [entry.url, entry.getState()]),
  )
  see('history', history.state)
  see('referrer', document.referrer)
  see('document', document.documentElement.outerHTML)
  see('window.name', window.name)
  see('cookie', document.cookie)
  see('web storage', [{ ...localStorage }, { ...sessionStorage }])
  see('performance', performance.getEntries())
  see('locks', await navigator.locks.query())
  const registrations = await navigator.serviceWorker.getRegistrations()
  see(
    'workers',
    registrations.map(({ active, scope }) => [active?.scriptURL, scope]),
  )

  for (const name of await caches.keys()) {
    const cache = await caches.open(name)
    for (const request of await cache.keys()) {
      const response = await cache.match(request)
      see('cache', [name, request.url, ...request.headers, await response?.text()])
    }
  }
  const { databases } = indexedDB
  for (const { name = '' } of await databases.call(indexedDB)) {
    see('database', name)
    if (name === ownDatabase) continue
    const db = await new Promise<IDBDatabase>((resolve) => {
      const opening = indexedDB.open(name)
      opening.onsuccess = () => resolve(opening.result)
    })
    for (const store of db.objectStoreNames) {
      const reading = db.transaction(store).objectStore(store).getAll()
      await new Promise((resolve) => {
        reading.onsuccess = resolve
      })
      see('database', reading.result)
    }
    db.close()
  }

  const visited = new Set<unknown>()
  const walk = (value: unknown, depth: number) => {
    if (typeof value === 'string') see('globals', value)
    const isObject = typeof value === 'object' && value !== null && value !== window
    const isOwnFunction = typeof value === 'function' && !/native code/.test(String(value))
    if (!(isObject || isOwnFunction) || depth === 0 || visited.has(value)) return
    visited.add(value)
    if (value instanceof Map || value instanceof Set) walk([...value.entries()], depth - 1)
    for (const key of Reflect.ownKeys(value as object)) {
      if (typeof key === 'string') see('globals', key)
      try {
        walk((value as Record<PropertyKey, unknown>)[key], depth - 1)
      } catch {
        // A getter that does not want to be called.
      }
    }
  }
  for (const name of Object.getOwnPropertyNames(window)) {
    if (!window.firstNames.has(name)) walk(window[name as never], 8)
  }
  return seen
}

/** Records what pages of `origin` see in this browser profile. Begin before the first page. */
export const startRecorder = async (context: BrowserContext, origin: string) => {
  const sightings: Sighting[] = []
  await context.exposeBinding('record', (_source, where: string, text: string) => {
    sightings.push({ where, text })
  })
  await context.addInitScript(watchPage, origin)
  // The worker's console too: Playwright counts it as the context's.
  context.on('console', (message) => sightings.push({ where: 'console', text: message.text() }))
  context.on('weberror', (error) => {
    sightings.push({ where: 'error', text: String(error.error().stack) })
  })

  return {
    sightings,

    /** Looks at everything in the page now; `ownDatabase` is the one that may hold secrets. */
    look: async (page: Page, ownDatabase: string) => {
      sightings.push(...(await page.evaluate(lookAround, ownDatabase)))
    },

    /** Where each of the secrets was seen: `name in where`, each once. */
    find: (secrets: ReadonlyMap<string, string>): string[] => {
      const found = new Set<string>()
      for (const [secret, name] of secrets) {
        for (const { where, text } of sightings) {
          if (text.includes(secret)) found.add(`${name} in ${where}`)
        }
      }
      return [...found].sort()
    },
  }
}
