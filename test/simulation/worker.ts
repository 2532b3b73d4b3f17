/**
 * The service workers of the origin: started for events, stopped by the browser, killed by chance.
 */
import { assemble, type Parts } from '../../sw/assemble.js'
import type { Config } from '../../sw/options/parse-options.js'
import type { PageBridge } from '../../sw/page-bridge.js'
import type { Platform } from '../../sw/platform.js'
import type { Mutation } from './mutations.js'
import { isEndInRecord } from './requests.js'
import type { Owner } from './scheduler.js'
import type { OpenPage } from './tab.js'
import type { World } from './world.js'

/** After a pause of so many ms a worker may have been frozen. */
const noticeablePause = 1_000

/** A worker from one start by the browser to the next stop, with memory of its own. */
export interface Incarnation {
  owner: Owner
  parts: Parts
  /** Events that are open, and what their senders meet if the worker is killed. */
  events: Set<{ onKilled?: () => void }>
  keepAlive(work: Promise<unknown>): void
  /** What token-worker.ts clears up when a page has been opened. */
  tidy(): Promise<void>
}

const createPlatform = (
  world: World,
  {
    owner,
    scope,
    isIdle,
    notice,
  }: { owner: Owner; scope: string; isIdle: () => boolean; notice: () => void },
): Platform => {
  const { scheduler } = world
  /** An answer of the browser: it comes later, and only to the living. */
  const later = <T>(label: string, value: () => T): Promise<T> =>
    new Promise((resolve) => {
      scheduler.add(label, () => resolve(value()), { owner })
    })
  return {
    scope: () => scope,
    fetch: world.network.fetchFor(owner),
    now: world.now,
    wait: (ms, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted()
        const onAbort = () => {
          cancel()
          reject(signal?.reason)
        }
        const fire = () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        }
        const cancel = scheduler.add(`timer of ${ms} ms`, fire, { in: Math.max(ms, 0), owner })
        signal?.addEventListener('abort', onAbort)
      }),
    random: world.jitter.next,
    lock: (name, signal, work) => world.locks.request(owner, { name, signal }, work),
    channel: (_name, listener) => {
      const onMessage = (data: unknown) => {
        notice()
        listener(data)
      }
      return world.channel.join(owner, { onMessage, isIdle })
    },
    online: () => world.isOnline,
    pages: {
      list: (within) => later('list of pages', () => world.pages(within)),
      exists: (id) => later('page exists?', () => world.pages().some((page) => page.id === id)),
      claim: async () => {},
    },
  }
}

/** What page-bridge.ts does, without messages, which are tested in Chromium. */
const createBridge = (world: World, owner: Owner): Pick<PageBridge, 'call' | 'publish'> => {
  const { scheduler } = world
  /** What a hidden frame is for: to renew, or to check. */
  const purposeOf = ({ url }: { url: string }) =>
    world.database.readTransaction(new URL(url).searchParams.get('ticket'))?.kind
  return {
    call: ({ page, name, input, limit }) =>
      new Promise((resolve) => {
        let isOver = false
        const isGone = () => isOver || world.pages().every(({ id }) => id !== page.id)
        if (name === 'probe') world.invariants.asksForFrame(owner)
        else world.invariants.frameOpens(owner, purposeOf(input as { url: string }), isGone)
        const answer = (value: unknown) => {
          cancel()
          isOver = true
          resolve(value as never)
        }
        const cancel = scheduler.add(`limit of ${name}`, () => answer(undefined), {
          in: limit,
          owner,
        })
        const reply = (value: unknown) =>
          scheduler.add(`${name}: ${JSON.stringify(value)}`, () => answer(value), { owner })
        ;(page as OpenPage).ask(name, input, reply)
      }),
    publish: async (event) => {
      scheduler.note(`  pages are told: ${event.type}`)
      world.invariants.told(event)
    },
  }
}

/** One of the service workers of the origin, which share the disk, the lock and the channel. */
export const createWorker = (
  world: World,
  name: string,
  {
    scope,
    configFor,
    mutation,
  }: {
    scope: string
    /** The options of a worker that is started. */
    configFor: (fetch: Platform['fetch']) => Config
    mutation?: Mutation
  },
) => {
  const { scheduler, invariants } = world
  let count = 0
  let incarnation: Incarnation | undefined
  /** When its last event ended. */
  let busyAt = 0
  /** Steps that the incarnation has left to live. */
  let stepsLeft = Number.POSITIVE_INFINITY

  const start = (): Incarnation => {
    const owner: Owner = { name: `${name}.${++count}` }
    const events: Incarnation['events'] = new Set()
    const isIdle = () => events.size === 0 && scheduler.time() - busyAt > noticeablePause
    const notice = () => {
      busyAt = scheduler.time()
    }
    let isTidy = false
    const platform = createPlatform(world, { owner, scope, isIdle, notice })
    const mutated = mutation?.platform?.(platform) ?? platform
    const parts = assemble({
      config: configFor(mutated.fetch),
      platform: mutated,
      bridge: createBridge(world, owner),
      changes: {
        store: (made) => {
          const watched = invariants.watchStore(made, owner)
          return mutation?.store?.(watched) ?? watched
        },
      },
    })
    return {
      ...{ owner, parts, events },
      keepAlive: (work) => {
        const event = {}
        events.add(event)
        const end = () => {
          busyAt = scheduler.time()
          events.delete(event)
        }
        work.catch(() => {}).finally(end)
      },
      tidy: async () => {
        const { session, apiParts } = parts
        const forget = apiParts.forget as ((reason?: string) => Promise<unknown>) | undefined
        if (isTidy || !forget) return
        isTidy = true
        const record = await session.read()
        if (isEndInRecord || record?.status === 'ended') {
          await forget(record?.status === 'ended' ? record.reason : undefined)
        }
      },
    }
  }

  const stop = (how: string) => {
    if (!incarnation) return
    const { owner, events } = incarnation
    scheduler.note(`${how} ${owner.name}`)
    incarnation = undefined
    stepsLeft = Number.POSITIVE_INFINITY
    owner.dead = true
    invariants.kill(owner)
    world.database.kill(owner)
    world.network.kill(owner)
    world.locks.kill(owner)
    world.channel.leave(owner)
    for (const { onKilled } of events) onKilled?.()
  }

  return {
    scope,
    isTurnOf: (owner: Owner | undefined) => owner !== undefined && incarnation?.owner === owner,
    isAlive: () => incarnation !== undefined,
    isIdle: () => incarnation?.events.size === 0,

    /**
     * An event for the worker, which is started if it is not running. `onKilled` is called if it
     * is killed before `handle` has ended; what `handle` gives reaches `onDone` in the worker's
     * turn.
     */
    dispatch: <T>(
      label: string,
      handle: (incarnation: Incarnation) => Promise<T>,
      onDone: (result: { value: T } | { error: unknown }) => void,
      onKilled?: () => void,
    ) => {
      scheduler.add(`${name} gets ${label}`, () => {
        incarnation ??= start()
        const { owner, events } = incarnation
        scheduler.turnTo(owner)
        const event = { onKilled }
        events.add(event)
        const done = (result: { value: T } | { error: unknown }) => {
          busyAt = scheduler.time()
          events.delete(event)
          onDone(result)
        }
        handle(incarnation).then(
          (value) => done({ value }),
          (error: unknown) => done({ error }),
        )
      })
    },

    /** Kills the worker when it has had this many more steps. */
    killAfter: (steps: number) => {
      stepsLeft = steps
    },
    /** Counts a step; true when it was the last one. */
    countStep: (): boolean => --stepsLeft <= 0,
    /** It is not killed after all. */
    spare: () => {
      stepsLeft = Number.POSITIVE_INFINITY
    },
    stop,
  }
}

export type Worker = ReturnType<typeof createWorker>
