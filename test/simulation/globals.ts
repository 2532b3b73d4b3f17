/**
 * What the code under test and its dependencies take from the global scope, put under the
 * scheduler: each of them would otherwise bring in a thread, a clock or chance of its own.
 */
import { createHash } from 'node:crypto'
import type { Chance } from './chance.js'
import type { Scheduler } from './scheduler.js'

/** What the globals of one run are made of. */
export interface Stage {
  scheduler: Scheduler
  /** For secrets: `state`, verifiers, tickets. */
  secrets: Chance
  /** The wall clock of the device. */
  now: () => number
  /** ms for the next step of the database */
  diskTakes: () => number
  caches: object
}

/**
 * Each time limit of the worker is two of these, and Node's own are an EventTarget and an error
 * with a stack each, which takes a tenth of the run.
 */
class LightAbortSignal {
  aborted = false
  reason: unknown
  #listeners = new Set<() => void>()
  throwIfAborted() {
    if (this.aborted) throw this.reason
  }
  addEventListener(_type: 'abort', listener: () => void) {
    this.#listeners.add(listener)
  }
  removeEventListener(_type: 'abort', listener: () => void) {
    this.#listeners.delete(listener)
  }
  /** For the controller. */
  abort(reason: unknown) {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    for (const listener of this.#listeners) listener()
  }
}

const abortError = Object.assign(new Error('This operation was aborted'), { name: 'AbortError' })

class LightAbortController {
  signal = new LightAbortSignal()
  abort(reason: unknown = abortError) {
    this.signal.abort(reason)
  }
}

const replace = (name: string, value: unknown) =>
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })

/** From now on the globals belong to this run. */
export const enter = ({ scheduler, secrets, now, diskTakes, caches }: Stage) => {
  // fake-indexeddb looks this up at each call. One source, because a database is served in order.
  replace('setImmediate', (task: () => void) => {
    const label = `database: ${task.name.replace(/^bound _?/, '') || 'task'}`
    scheduler.add(label, task, { in: diskTakes(), source: 'database' })
  })

  replace('caches', caches)
  // A browser without Background Sync.
  replace('self', { registration: {}, addEventListener: () => {} })

  replace('AbortSignal', LightAbortSignal)
  replace('AbortController', LightAbortController)

  /** What the real one answers from other threads, in an order of their own. */
  const later = <T>(label: string, value: () => T): Promise<T> =>
    new Promise((resolve) => {
      scheduler.add(label, () => resolve(value()), { owner: scheduler.current() })
    })
  const hash = (data: Uint8Array) =>
    new Uint8Array(createHash('sha256').update(data).digest()).buffer

  // What comes back from the disk is a plain object, as all there.
  replace('CryptoKey', {
    [Symbol.hasInstance]: (value: unknown) => Object(value).extractable === false,
  })

  replace('crypto', {
    getRandomValues: (bytes: Uint8Array) => {
      for (let index = 0; index < bytes.length; index++) bytes[index] = secrets.below(256)
      return bytes
    },
    subtle: {
      digest: (_algorithm: 'SHA-256', data: Uint8Array) => later('hash', () => hash(data)),
      generateKey: () =>
        later('a key', () => {
          const id = String(secrets.below(1e9))
          return { privateKey: { id, extractable: false }, publicKey: { id } }
        }),
      exportKey: (_format: 'jwk', { id }: { id: string }) =>
        later('the key', () => ({ crv: 'P-256', kty: 'EC', x: id, y: id })),
      sign: (_algorithm: object, key: { id: string }, data: Uint8Array) => {
        const { id } = key
        return later('a proof', () => hash(new Uint8Array([...Buffer.from(id), ...data])))
      },
    },
  })

  // oauth4webapi looks at it to judge ID tokens.
  Date.now = now
  Math.random = () => {
    throw new Error('Chance that no seed decides')
  }
}
