/**
 * The one queue of everything asynchronous, in virtual time. All that is left to real promises is
 * what settles within a step.
 */
import type { Chance } from './chance.js'

/**
 * Whose turn an entry is: a worker, a page, a frame. Once it is dead its entries are dropped, so
 * that whatever it waits for never comes.
 */
export interface Owner {
  name: string
  dead?: boolean
}

interface Entry {
  at: number
  /** ms */
  takes: number
  order: number
  label: string
  run: () => void
  owner?: Owner
  cancelled?: boolean
}

export interface EntryOptions {
  /** ms from now; default: now. */
  in?: number
  /** For whom it happens. */
  owner?: Owner
  /** Entries of one source run in the order in which they came; all others in any order. */
  source?: string
}

/** Steps after which a run is taken for one that never ends. */
const mostSteps = 60_000

// The simulation replaces the global one.
const { setImmediate } = globalThis

/**
 * The one queue of everything asynchronous. A step picks one of the entries that are due, by
 * chance, runs it, and lets promises settle; time jumps to the next entry when nothing is due.
 */
export const createScheduler = (chance: Chance, keepSchedule: boolean) => {
  let time = 0
  let order = 0
  let steps = 0
  /** Of the labels in the order in which they ran. */
  let hash = 0x811c9dc5
  const schedule: string[] = []
  /** A heap, the earliest entry first. */
  const later: Entry[] = []
  const due: Entry[] = []
  const sources = new Map<string, Entry[]>()
  let current: Owner | undefined

  const isBefore = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order)

  const push = (entry: Entry) => {
    let index = later.push(entry) - 1
    while (index > 0) {
      const above = (index - 1) >> 1
      if (isBefore(later[above]!, entry)) break
      later[index] = later[above]!
      index = above
    }
    later[index] = entry
  }

  const pop = (): Entry => {
    const first = later[0]!
    const last = later.pop()!
    if (later.length === 0) return first
    let index = 0
    for (;;) {
      let below = 2 * index + 1
      if (below >= later.length) break
      if (below + 1 < later.length && isBefore(later[below + 1]!, later[below]!)) below++
      if (!isBefore(later[below]!, last)) break
      later[index] = later[below]!
      index = below
    }
    later[index] = last
    return first
  }

  const note = (text: string) => {
    for (let index = 0; index < text.length; index++) {
      hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
    }
    hash = Math.imul(hash ^ time, 0x01000193)
    // What goes on inside the database says nothing to a reader.
    if (keepSchedule && !text.startsWith('database: '))
      schedule.push(`${(time / 1000).toFixed(3).padStart(10)}  ${text}`)
  }

  const isVoid = ({ cancelled, owner }: Entry) => cancelled || owner?.dead

  /** The next entry to run; undefined if there is none. */
  const take = (): Entry | undefined => {
    for (;;) {
      if (due.length === 0) {
        if (later.length === 0) return
        time = Math.max(time, later[0]!.at)
        while (later[0] && later[0].at <= time) {
          const entry = pop()
          if (!isVoid(entry)) due.push(entry)
        }
        continue
      }
      const index = chance.below(due.length)
      const entry = due[index]!
      due[index] = due[due.length - 1]!
      due.pop()
      if (!isVoid(entry)) return entry
    }
  }

  return {
    /** ms since the run began. It only goes forward; clocks that jump are above this. */
    time: () => time,
    steps: () => steps,
    hash: () => (hash >>> 0).toString(16).padStart(8, '0'),
    schedule,
    /** Whose turn it is in this step. */
    current: () => current,
    /** From here on in this step it is the turn of `owner`. */
    turnTo: (owner: Owner | undefined) => {
      current = owner
    },

    /** A remark in the schedule, which counts for the hash as well. */
    note,

    /** Adds an entry; the answer takes it back. */
    add: (label: string, run: () => void, options: EntryOptions = {}): (() => void) => {
      const { in: wait = 0, owner, source } = options
      const entry: Entry = { at: time + wait, takes: wait, order: order++, label, run, owner }
      const cancel = () => {
        entry.cancelled = true
      }
      if (source === undefined) {
        if (wait > 0) push(entry)
        else due.push(entry)
        return cancel
      }
      // Only the first of a source is due; each brings in the next.
      const queue = sources.get(source) ?? []
      sources.set(source, queue)
      entry.run = () => {
        run()
        queue.shift()
        if (queue[0]) begin(queue[0])
      }
      const begin = (first: Entry) => {
        // It takes its time from the moment in which it comes first.
        first.at = time + first.takes
        if (first.takes > 0) push(first)
        else due.push(first)
      }
      if (queue.push(entry) === 1) begin(entry)
      return cancel
    },

    /**
     * Runs entries until `isOver` says so or nothing is left. `afterStep` looks at the world after
     * each step and may change it.
     */
    run: (isOver: () => boolean, afterStep: (owner: Owner | undefined) => void): Promise<void> =>
      new Promise((resolve, reject) => {
        const turn = () => {
          try {
            // All promises of the last step have settled: the browser would be idle now.
            if (steps > 0) afterStep(current)
            current = undefined
            if (isOver()) return resolve()
            const entry = take()
            if (!entry) return resolve()
            if (++steps > mostSteps) throw new Error(`No end after ${mostSteps} steps`)
            current = entry.owner
            note(entry.owner ? `${entry.owner.name}: ${entry.label}` : entry.label)
            entry.run()
            setImmediate(turn)
          } catch (error) {
            reject(error)
          }
        }
        turn()
      }),
  }
}

export type Scheduler = ReturnType<typeof createScheduler>
