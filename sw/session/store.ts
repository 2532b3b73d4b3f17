import { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type { Shape } from '../values/shape.js'
import { createDatabase, type Database, type ServerKey } from './database.js'
import {
  type ActiveRecord,
  activeOf,
  type DpopState,
  type SessionRecord,
  type StoredKeys,
  type StoredMetadata,
} from './records.js'
import { dpopShape, keysShape, metadataShape, sessionRecordIn, storedIn } from './stored-shapes.js'
import { createStoredTransactions, type StoredTransactions } from './stored-transactions.js'

/** What the store needs of the configuration. */
export interface StoreConfig {
  issuer: string
  clientId: string
  storage: 'indexeddb' | 'memory'
}

/** What happens to the store beside its answers. */
export interface StoreEvents {
  /** The database has been taken away, or is about to be. */
  lost(): void
  /** The stored session record is unusable, so the session is over. */
  damaged(error: TokenError): void
  /** This worker alone knows this refresh token, and its session is over. */
  orphaned(refreshToken: string): void
}

/** Both states of a record around a change; without a change they are the same object. */
export interface RecordChange {
  before?: SessionRecord
  after?: SessionRecord
}

/** What the worker keeps of the server. */
export interface Published {
  readMetadata(): Promise<StoredMetadata | undefined>
  writeMetadata(metadata: object): Promise<void>
  readKeys(): Promise<StoredKeys | undefined>
  writeKeys(keys: JsonWebKey[], inVain: boolean): Promise<void>
  readDpop(): Promise<DpopState | undefined>
  writeDpop(state: DpopState): Promise<void>
}

/** What the worker keeps: the session, transactions, and what the server publishes. */
export interface Store extends Omit<StoredTransactions, 'dropOldTransactions'>, Published {
  /** Name of the database: issuer and client. */
  name: string
  /** This worker alone has the tokens, so they go when another worker ends the session. */
  inMemory: boolean
  read(): Promise<SessionRecord | undefined>
  /**
   * Changes the session record in one transaction. `next` sees the newest record and gives the next
   * one (its generation is set here), or `undefined` to leave it as it is. So a stale copy never
   * overwrites a newer record.
   */
  update(
    next: (current: SessionRecord | undefined) => SessionRecord | undefined,
  ): Promise<RecordChange>
  /**
   * Clears up, once in the life of a worker: transactions that are too old, and the database that
   * the worker at `place` had before its issuer or client was changed. That one is only deleted: to
   * revoke its token would need the metadata of a server that is no longer configured.
   */
  tidy(place: string): Promise<void>
}

/** How a record looks without what `storage: 'memory'` keeps off the disk. */
const noTokens: Partial<ActiveRecord> & Record<string, unknown> = {
  accessToken: undefined,
  accessTokenIssuedAt: 0,
  accessTokenExpiresAt: undefined,
  accessTokenRefused: undefined,
  refreshToken: undefined,
  refreshSentAt: undefined,
  idToken: undefined,
  dpopKey: undefined,
}

const tokensOf = (record: object): typeof noTokens =>
  Object.fromEntries(Object.keys(noTokens).map((name) => [name, (record as typeof noTokens)[name]]))

/** What is kept of the server, if it still has its shape. */
const createPublished = (database: Database, now: Platform['now']): Published => {
  const read = async <T>(key: ServerKey, shape: Shape): Promise<T | undefined> =>
    storedIn(await database.read('server', key), shape)

  return {
    readMetadata: () => read('metadata', metadataShape),
    writeMetadata: (metadata) => database.write('metadata', { metadata, fetchedAt: now() }),
    readKeys: () => read('keys', keysShape),
    writeKeys: (keys, inVain) => database.write('keys', { keys, fetchedAt: now(), inVain }),
    readDpop: () => read('dpop', dpopShape),
    writeDpop: (state) => database.write('dpop', state),
  }
}

/**
 * Keeps records in IndexedDB: truth is in there, memory is a cache. With `storage: 'memory'` the
 * tokens are in the memory of this worker and nowhere else.
 */
export function createStore({
  config: { issuer, clientId, storage },
  platform,
  events: { lost, damaged, orphaned } = {},
}: {
  config: Omit<StoreConfig, 'storage'> & Partial<StoreConfig>
  platform: Pick<Platform, 'now' | 'wait' | 'scope'>
  events?: Partial<StoreEvents>
}): Store {
  const name = `tokenward ${issuer} ${clientId}`
  const inMemory = storage === 'memory'
  const database = createDatabase({ name, platform, onLost: () => lost?.() })
  /** The session whose tokens this worker has, while the disk has none. */
  let held: ActiveRecord | undefined

  /** The record that is on the disk, with the tokens that are not. */
  const recordOf = (raw: unknown): SessionRecord | undefined => {
    const record = sessionRecordIn(raw)
    if (!inMemory) return record
    const current = activeOf(record)
    if (held && held.session !== current?.session) {
      // Tokens of one user may share a grant, so those of a new sign-in would be revoked as well.
      const isOver = !current || current.subject !== held.subject
      if (isOver && held.refreshToken !== undefined) orphaned?.(held.refreshToken)
      held = undefined
    }
    return current ? { ...current, ...tokensOf(held ?? noTokens) } : record
  }

  const update = async (
    next: (current: SessionRecord | undefined) => SessionRecord | undefined,
  ): Promise<RecordChange> => {
    const result = await database.change<SessionRecord>({
      stores: ['session', 'transactions'],
      key: 'current',
      parse: recordOf,
      next: (current) => {
        const wanted = next(current)
        return wanted && { ...wanted, generation: (current?.generation ?? 0) + 1 }
      },
      toDisk: (record, dropSignIns) => {
        if (record.status === 'active') return inMemory ? { ...record, ...noTokens } : record
        // A sign-out stops the sign-ins that other tabs have under way.
        if (record.reason === 'logout') dropSignIns()
        return record
      },
    })
    // Not earlier: the write may have failed.
    const { before, after } = result
    if (inMemory && after !== before) held = activeOf(after)
    return result
  }

  const read = async (): Promise<SessionRecord | undefined> => {
    const raw = await database.read('session', 'current')
    const record = recordOf(raw)
    const isDamaged = raw !== undefined && !record
    if (isDamaged || (inMemory && Object.values(tokensOf(Object(raw))).some(Boolean))) {
      const repair = update((current) => {
        // `storage: 'memory'` removes the tokens that an earlier version has left on the disk.
        if (current?.status === 'active') return current
        if (current) return
        damaged?.(
          new TokenError('storage_failed', 'The stored session cannot be read: it is over.'),
        )
        return { status: 'ended', generation: 0, reason: 'storage_cleared' }
      })
      // A repair that fails is tried at the next read.
      await repair.catch(() => {})
    }
    return record
  }

  const transactions = createStoredTransactions({ database, platform })

  return {
    ...transactions,
    ...createPublished(database, platform.now),
    name,
    inMemory,
    read,
    update,

    tidy: async (place) => {
      await transactions.dropOldTransactions()
      await database.replaceFormer(place)
    },
  }
}
