// The outside world of a token worker, without a browser: a `Platform` whose clock, chance, network,
// locks, channels and pages are in the hands of the test.
import { expose } from 'comlink'
import type { PageCalls, WireEvent } from '../../src/shared/protocol.js'
import type { Page, Platform } from '../../sw/platform.js'

export type Fetch = Platform['fetch']

export interface FakePage extends Page {
  /** What the worker has told this page. */
  events: WireEvent[]
  /** What `clients.get` finds; a page that is closed is also gone from the list. */
  closed: boolean
}

/** A page of the app. `calls` is what it does for the worker; without, it never answers. */
export const fakePage = ({
  calls,
  ...more
}: Partial<FakePage> & { calls?: Partial<PageCalls> } = {}): FakePage => {
  const page: FakePage = {
    id: `page-${Math.random()}`,
    topLevel: true,
    visible: true,
    focused: false,
    closed: false,
    events: [],
    post: (message, [port] = []) => {
      const { event } = structuredClone(message) as { event?: WireEvent }
      if (event) page.events.push(event)
      if (port && calls) expose(calls, port as MessagePort)
    },
    ...more,
  }
  return page
}

/** Lets everything happen that needs no time: promises, fake-indexeddb, messages, hashes. */
export const settle = async (): Promise<void> => {
  for (let round = 0; round < 8; round++) {
    // Hashes are made on other threads, in turn.
    await crypto.subtle.digest('SHA-256', new Uint8Array(1))
    for (let turn = 0; turn < 8; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Nobody answers. */
export const noNetwork: Fetch = async () => {
  throw new TypeError('Failed to fetch')
}

/** One browser profile: all that the workers and pages of one origin share. */
export const createFakeBrowser = ({ scope = 'https://app.example/' } = {}) => {
  let time = Date.now()
  let elapsed = 0
  const timers = new Set<{ at: number; fire: () => void }>()
  const queues = new Map<string, Promise<unknown>>()
  const channels = new Map<string, Set<(data: unknown) => void>>()

  const browser = {
    online: true,
    random: 1,
    pages: [] as FakePage[],
    /** How often a worker has taken control of all pages. */
    claims: 0,
    /** Every message on any channel. */
    announcements: [] as { channel: string; data: unknown }[],
    /** Names of the locks that were asked for. */
    locks: [] as string[],

    /** What happens to the locks of a worker that is stopped. */
    releaseLocks: () => queues.clear(),

    now: () => time,
    /** Sets the wall clock forward or back; no time passes. */
    setClock: (by: number) => {
      time += by
    },
    timers: () => timers.size,
    /** Lets time pass: what is due fires in order, and has its effect before the next. */
    pass: async (ms: number) => {
      const end = elapsed + ms
      await settle()
      for (;;) {
        const [next] = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (!next) break
        timers.delete(next)
        time += next.at - elapsed
        elapsed = next.at
        next.fire()
        await settle()
      }
      time += end - elapsed
      elapsed = end
    },

    /** The platform of one worker; several of one browser share everything but the network. */
    platform: (fetch: Fetch = noNetwork): Platform => ({
      scope: () => scope,
      fetch,
      now: browser.now,
      wait: (ms, signal) =>
        new Promise((resolve, reject) => {
          signal?.throwIfAborted()
          const onAbort = () => {
            timers.delete(timer)
            reject(signal?.reason)
          }
          const fire = () => {
            signal?.removeEventListener('abort', onAbort)
            resolve()
          }
          const timer = { at: elapsed + ms, fire }
          timers.add(timer)
          signal?.addEventListener('abort', onAbort)
        }),
      random: () => browser.random,
      lock: async (name, signal, work) => {
        browser.locks.push(name)
        const before = queues.get(name) ?? Promise.resolve()
        let release = () => {}
        const held = new Promise<void>((resolve) => {
          release = resolve
        })
        queues.set(
          name,
          before.then(() => held),
        )
        const aborted = new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason))
        })
        try {
          await Promise.race([before, aborted])
          return await work()
        } finally {
          release()
        }
      },
      channel: (name, onMessage) => {
        const listeners = channels.get(name) ?? new Set()
        channels.set(name, listeners.add(onMessage))
        return {
          post: (data) => {
            browser.announcements.push({ channel: name, data })
            for (const listener of listeners) {
              if (listener !== onMessage) setImmediate(listener, structuredClone(data))
            }
          },
        }
      },
      online: () => browser.online,
      pages: {
        list: async () => browser.pages.filter(({ closed }) => !closed),
        exists: async (id) => browser.pages.some((page) => page.id === id && !page.closed),
        claim: async () => {
          browser.claims++
        },
      },
    }),
  }
  return browser
}

export type FakeBrowser = ReturnType<typeof createFakeBrowser>
