import { type DBSchema, deleteDB, type IDBPDatabase, type IDBPObjectStore, openDB } from 'idb'
import { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import { withTimeLimit } from '../time-limit.js'
import { ageOf } from '../values/age.js'
import { isObject } from '../values/shape.js'

// Any script of the origin may have written what is read, so its type is unknown.
interface Schema extends DBSchema {
  session: { key: 'current'; value: unknown }
  transactions: { key: string; value: unknown }
  server: { key: 'metadata' | 'keys' | 'dpop'; value: unknown }
}

type StoreName = 'session' | 'transactions' | 'server'

export type ServerKey = Schema['server']['key']

/** One change of one value: what is there, and what is to be there. */
export interface Change<Value> {
  /** The stores of the transaction; the value is in the first. */
  stores: ['session', 'transactions'] | ['transactions']
  key: string
  /** Reads what is there. */
  parse(raw: unknown): Value | undefined
  /** What is to be there: `undefined` leaves it, `null` removes it. */
  next(current: Value | undefined): Value | null | undefined
  /** What is written of it; by default all. */
  toDisk?(value: Value, dropSignIns: () => unknown): Value
}

/** The one database of a token worker. Every call opens it if need be, and survives its loss. */
export interface Database {
  read(store: StoreName, key: string): Promise<unknown>
  /** All values of `transactions`, with their keys. */
  readTransactions(): Promise<[key: string, raw: unknown][]>
  write(key: ServerKey, value: object): Promise<void>
  /** Deletes the transactions whose key is not among those that `keep` picks. */
  keepTransactions(keep: Keep): Promise<void>
  /**
   * Changes one value in one strict transaction, and resolves once it is on disk. Without a change
   * `before` and `after` are the same object.
   */
  change<Value extends object>(change: Change<Value>): Promise<{ before?: Value; after?: Value }>
  /**
   * Notes which database the worker at `place` has, and deletes the one that it had before its
   * issuer or client was changed.
   */
  replaceFormer(place: string): Promise<void>
}

/** ms for one try. Any page can block it: by a connection, or a transaction that it keeps open. */
const tryLimit = 3_000
/**
 * ms for which nothing is tried after that: what a request does on the disk is several steps, and
 * each would wait as long.
 */
const blockedFor = 3_000

/** Errors of a database with other stores than ours: a script has made it. */
const foreign = /^(Constraint|Data|NotFound)Error$/
const blocked = /^TimeoutError$/

const isOneOf = (names: RegExp, cause: unknown): boolean =>
  names.test((cause as Error | undefined)?.name ?? '')

const blockage = () => new DOMException('Another connection blocks the database.', 'TimeoutError')

const unusable = (cause: unknown) =>
  new TokenError(
    'storage_failed',
    'The worker cannot use IndexedDB (private window, full disk, or blocked).',
    cause,
  )

const entriesOf = (keys: readonly string[], values: readonly unknown[]): [string, unknown][] =>
  keys.map((key, index) => [key, values[index]])

/** A connection that is opened when it is needed, and anew when it is lost. */
interface Connection {
  /** Runs `work` on the database, and once more on a new connection if the old one is gone. */
  use<T>(work: (db: IDBPDatabase<Schema>, late: AbortSignal) => Promise<T>): Promise<T>
  /** Limits what another connection can block. */
  limited<T>(work: (late: AbortSignal) => Promise<T>): Promise<{ value: T }>
}

function createConnection({ name, platform, onLost }: DatabaseParts): Connection {
  let opening: Promise<IDBPDatabase<Schema>> | undefined
  let blockedAt = Number.NEGATIVE_INFINITY

  const lose = () => {
    opening = undefined
    onLost()
  }

  const limited: Connection['limited'] = async (work) => {
    const done = await withTimeLimit(platform.wait, tryLimit, async (late) => ({
      value: await work(late),
    }))
    if (done) return done
    throw blockage()
  }

  const open = () =>
    // In whatever version it is there: versions of this library only ever add stores.
    openDB<Schema>(name, undefined, {
      upgrade: (db) => {
        db.createObjectStore('session')
        db.createObjectStore('transactions')
        db.createObjectStore('server')
      },
      blocking: (_current, _blocked, { target }) => {
        ;(target as IDBDatabase).close()
        lose()
      },
      terminated: lose,
    })

  const use = async <T>(
    work: (db: IDBPDatabase<Schema>, late: AbortSignal) => Promise<T>,
    isLast = false,
  ): Promise<T> => {
    if (ageOf(blockedAt, platform.now()) < blockedFor) throw unusable(blockage())
    let mine: typeof opening
    try {
      const { value } = await limited(async (late) => {
        opening ??= open()
        mine = opening
        const db = await mine
        late.throwIfAborted()
        return await work(db, late)
      })
      return value
    } catch (cause) {
      if (opening === mine) opening = undefined
      mine?.then((db) => db.close()).catch(() => {})
      if (isLast) {
        if (isOneOf(blocked, cause)) blockedAt = platform.now()
        throw unusable(cause)
      }
      if (isOneOf(foreign, cause)) await limited(() => deleteDB(name)).catch(() => {})
      return await use(work, true)
    }
  }

  return { use: (work) => use(work), limited }
}

/** Begins a transaction that ends when it is `late`: what failed must not come true after all. */
const begin = <Name extends StoreName, Mode extends 'readonly' | 'readwrite'>(
  db: IDBPDatabase<Schema>,
  stores: Name[],
  { mode, late, durability }: { mode: Mode; late: AbortSignal } & IDBTransactionOptions,
) => {
  const tx = db.transaction(stores, mode, { durability })
  // After a request that fails, its caller does not wait for this promise.
  tx.done.catch(() => {})
  late.addEventListener('abort', () => {
    try {
      tx.abort()
    } catch {
      // It has ended by itself.
    }
  })
  return tx
}

/** Strict, because a power cut that undoes a rotated refresh token costs the session. */
const toChange = (late: AbortSignal) => ({ mode: 'readwrite', durability: 'strict', late }) as const

type Keep = (all: [key: string, raw: unknown][]) => ReadonlySet<string>

/** Deletes the transactions whose key is not among those that `keep` picks. */
const keepIn = async (
  store: Pick<
    IDBPObjectStore<Schema, ['transactions'], 'transactions', 'readwrite'>,
    'getAll' | 'getAllKeys' | 'delete'
  >,
  keep: Keep,
): Promise<void> => {
  const [keys, values] = await Promise.all([store.getAllKeys(), store.getAll()])
  const kept = keep(entriesOf(keys, values))
  await Promise.all(keys.map((key) => kept.has(key) || store.delete(key)))
}

/** A second click on "sign out" must not stop the way to the server of the first. */
const logoutsIn: Keep = (all) =>
  new Set(all.flatMap(([key, raw]) => (isObject(raw) && raw['kind'] === 'logout' ? key : [])))

interface DatabaseParts {
  name: string
  platform: Pick<Platform, 'now' | 'wait'>
  /** Called when the database has been taken away, or is about to be. */
  onLost: () => void
}

/** Opens the database `name` when it is needed. */
export function createDatabase(parts: DatabaseParts): Database {
  const { name } = parts
  const { use, limited } = createConnection(parts)

  return {
    read: (store, key) =>
      use((db, late) =>
        begin(db, [store], { mode: 'readonly', late })
          .objectStore(store)
          .get(key as never),
      ),

    readTransactions: () =>
      use(async (db, late) => {
        const tx = begin(db, ['transactions'], { mode: 'readonly', late })
        const store = tx.objectStore('transactions')
        return entriesOf(...(await Promise.all([store.getAllKeys(), store.getAll()])))
      }),

    write: (key, value) =>
      use(async (db, late) => {
        const tx = begin(db, ['server'], { mode: 'readwrite', late })
        await tx.objectStore('server').put(value, key)
        await tx.done
      }),

    keepTransactions: (keep) =>
      use(async (db, late) => {
        const tx = begin(db, ['transactions'], toChange(late))
        await keepIn(tx.objectStore('transactions'), keep)
        await tx.done
      }),

    change: ({ stores, key, parse, next, toDisk = (value) => value }) =>
      use(async (db, late) => {
        const tx = begin(db, stores, toChange(late))
        const store = tx.objectStore(stores[0])
        const before = parse(await store.get(key as 'current'))
        const wanted = next(before)
        if (wanted) {
          let dropped: unknown
          const value = toDisk(wanted, () => {
            dropped = keepIn(tx.objectStore('transactions'), logoutsIn)
          })
          await Promise.all([dropped, store.put(value, key as 'current')])
        }
        if (wanted === null) await store.delete(key as 'current')
        await tx.done
        return { before, after: wanted === undefined ? before : (wanted ?? undefined) }
      }),

    replaceFormer: async (place) => {
      await limited(async () => {
        const places = await openDB('tokenward', undefined, {
          upgrade: (db) => void db.createObjectStore('places'),
        })
        try {
          const former: unknown = await places.get('places', place)
          if (former === name) return
          const isOurs = String(former).startsWith('tokenward ')
          const users = (await places.getAll('places')).filter((each) => each === former)
          if (isOurs && users.length < 2) await deleteDB(former as string)
          await places.put('places', name, place)
        } finally {
          places.close()
        }
      })
    },
  }
}
