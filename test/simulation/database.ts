/**
 * fake-indexeddb as a disk that outlives its users: it knows which worker a connection belongs to,
 * delivers nothing to a dead one, can be full, and says what has been committed.
 */
import { createHash } from 'node:crypto'
import 'fake-indexeddb/auto'
import { IDBFactory, IDBIndex, IDBOpenDBRequest, IDBRequest, IDBTransaction } from 'fake-indexeddb'
import type { SessionRecord, Transaction } from '../../sw/session/records.js'
import type { Chance } from './chance.js'
import type { Owner, Scheduler } from './scheduler.js'

// What is used of the inside of fake-indexeddb.
interface RawStore {
  records: { get(key: string): { value: unknown } | undefined }
}
interface RawDatabase {
  transactions: RawTransaction[]
  rawObjectStores: Map<string, RawStore>
  processTransactions: () => void
}
interface Connection {
  _rawDatabase: RawDatabase
}
interface RawTransaction {
  db: Connection
  mode: IDBTransactionMode
  listeners: { callback: unknown }[]
  _scope: Set<string>
  _state: 'active' | 'inactive' | 'committing' | 'finished'
  _requests: unknown[]
  _start(): void
  _abort(error: string | null): void
}
interface RawEvent {
  type: string
}

/** Listeners that fake-indexeddb adds to each transaction before anybody else can. */
const ownListeners = 3

interface Disk {
  scheduler: Scheduler
  /** Writing fails: the disk is full. */
  isFull: () => boolean
  /** A change has come to nothing: the disk was full, or too slow. */
  onRefused: () => void
  /** A transaction that could change the session record has been committed. */
  onCommit: (record: SessionRecord | undefined, owner: Owner | undefined) => void
}

let disk: Disk
let owners: WeakMap<object, Owner>
let factory: { _databases: Map<string, RawDatabase>; open(name: string, version?: number): object }

/** What is there now, without a transaction, in the one database of the worker. */
const read = (storeName: string, key: string): unknown => {
  const [, database] = [...factory._databases].find(([name]) => name.startsWith('tokenward ')) ?? []
  return database?.rawObjectStores.get(storeName)?.records.get(key)?.value
}

const keyOf = (secret: string | null): string =>
  createHash('sha256')
    .update(secret ?? '')
    .digest('base64')

const readSession = () => read('session', 'current') as SessionRecord | undefined

const target = Object.getPrototypeOf(IDBRequest.prototype) as {
  dispatchEvent(event: RawEvent): boolean
}
const dispatchEvent = target.dispatchEvent

const connectionOf = (of: object): object | undefined => {
  if (of instanceof IDBOpenDBRequest) return of
  if (of instanceof IDBRequest) {
    // A request of an index does not say which transaction it belongs to.
    const { source } = of
    const store = source instanceof IDBIndex ? source.objectStore : undefined
    return (of.transaction ?? store?.transaction)?.db
  }
  return of instanceof IDBTransaction ? of.db : of
}

target.dispatchEvent = function (this: object, event) {
  const { scheduler } = disk
  const owner = owners.get(connectionOf(this) ?? this)
  const isOpening = this instanceof IDBOpenDBRequest
  const deliver = () => {
    scheduler.note(`  ${event.type}${owner ? ` for ${owner.name}` : ''}`)
    scheduler.turnTo(owner)
    return dispatchEvent.call(this, event)
  }
  if (isOpening && owner) {
    // The transaction of an upgrade has this connection before the request is answered.
    const { result } = this as { result?: object }
    if (result) owners.set(result, owner)
    if (event.type === 'success' || event.type === 'error') {
      // Several can be answered in one go, but each is the turn of another worker.
      scheduler.add(`opened: ${event.type}`, () => dispatchEvent.call(this, event), { owner })
      return true
    }
    // Who is dead cannot make the object stores; the next one has to.
    if (owner.dead && event.type === 'upgradeneeded') throw new Error('The worker is dead')
  }
  if (this instanceof IDBTransaction) {
    const transaction = this as unknown as RawTransaction
    const { mode, _scope: scope, listeners, db } = transaction
    const isChange = mode === 'readwrite' && scope.has('session') && event.type === 'complete'
    if (isChange) disk.onCommit(readSession(), owner)
    if (mode === 'readwrite' && event.type === 'abort' && !owner?.dead) disk.onRefused()
    if (owner?.dead) {
      const { processTransactions } = db._rawDatabase
      transaction.listeners = listeners.filter(
        ({ callback }, index) => index < ownListeners || callback === processTransactions,
      )
      return dispatchEvent.call(this, event)
    }
  }
  return owner?.dead ? true : deliver()
}

const raw = IDBTransaction.prototype as unknown as RawTransaction
const start = raw._start
raw._start = function (this: RawTransaction) {
  const isCommit = this._requests.length === 0 && this._state !== 'finished'
  if (isCommit && this.mode === 'readwrite' && disk.isFull()) this._abort('QuotaExceededError')
  else start.call(this)
}

/** A new, empty disk. */
export const createDatabase = (chance: Chance, next: Disk) => {
  disk = next
  owners = new WeakMap()
  factory = new IDBFactory() as unknown as typeof factory
  Object.defineProperty(globalThis, 'indexedDB', {
    configurable: true,
    value: {
      open: (database: string, version?: number) => {
        const request = factory.open(database, version)
        const owner = disk.scheduler.current()
        if (owner) owners.set(request, owner)
        return request
      },
    },
  })

  return {
    /** The transaction that waits for this ticket or `state`. */
    readTransaction: (secret: string | null) =>
      read('transactions', keyOf(secret)) as Transaction | undefined,

    /** What a worker that dies had open is committed as far as it got, or undone. */
    kill: (owner: Owner) => {
      const open = [...factory._databases.values()].flatMap(({ transactions }) => transactions)
      for (const transaction of open) {
        if (owners.get(transaction.db) !== owner || transaction._state === 'finished') continue
        const isUndone = chance.is(0.5)
        disk.scheduler.note(`  its transaction ${isUndone ? 'is undone' : 'goes on'}`)
        if (isUndone) transaction._abort(null)
      }
    },
  }
}

export type Database = ReturnType<typeof createDatabase>
