import { type DBSchema, deleteDB, type IDBPDatabase, openDB } from 'idb'
import { TokenError, type TokenErrorData } from '../../src/shared/errors.js'
import type { Claims, SignedOutReason } from '../../src/shared/protocol.js'
import type { Config } from '../options/options.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServerMetadata } from '../server/authorization-server.js'
import type { DpopKey, DpopState } from '../server/dpop.js'
import { withTimeLimit } from '../time-limit.js'

/** A signed-in user: everything about the session, in one record. */
export interface ActiveRecord {
  status: 'active'
  /** Counts every change of the record, over all sessions: who has a lower number is behind. */
  generation: number
  /** Names this sign-in. A result that belongs to another one is dropped. */
  session: string
  /** ms since 1970 */
  since: number
  claims: Claims
  subject?: string
  scope: string
  /** Only ever a hint for the authorization server; it never leaves the worker. */
  idToken?: string
  accessToken?: string
  /** ms since 1970 */
  accessTokenIssuedAt: number
  /** ms since 1970; absent if the server did not say */
  accessTokenExpiresAt?: number
  refreshToken?: string
  /**
   * When this refresh token was first sent without an answer that decides about it (ms since
   * 1970). Written before it is sent, removed with such an answer, put back as it was by any
   * other: where it is found, nobody knows whether the server has seen the token, and replaced it.
   */
  refreshSentAt?: number
  /**
   * Failed renewals in a row, and when the next one may be tried (ms since 1970). `asked`: the
   * server itself has asked to be left alone until then.
   */
  retry?: { failures: number; notBefore: number; asked?: true }
  /** A hidden frame has signed in for this session before, so it is worth trying. */
  silentLoginWorks?: true
  /** Hidden frames in a row that brought nothing, and when the last one ended (ms since 1970). */
  silentLoginFailed?: { times: number; at: number }
  /** A hash of the subject: it stays when the session has ended, to know the next user by. */
  user?: string
  /** A second user has signed in here: the browser's cache has answers for either. */
  usersChanged?: true
  /** Pages have been told that a sign-in is needed; they are told once. */
  loginRequired?: true
  /** Endpoints of the server that never get a token as if they were an API. */
  protocolEndpoints: readonly string[]
  /** What both tokens are bound to, with the option `dpop`. */
  dpopKey?: DpopKey
}

/** Nobody is signed in (any more). */
export interface EndedRecord {
  status: 'ended'
  generation: number
  reason: SignedOutReason
  /** As in `ActiveRecord`. */
  user?: string
  usersChanged?: true
}

export type SessionRecord = ActiveRecord | EndedRecord

/** A way to the authorization server and back that is under way. Secrets stay in here. */
export interface Transaction {
  kind: 'login' | 'silent' | 'check' | 'logout'
  /** ms since 1970 */
  createdAt: number
  /** Where the browser goes at the end; absolute, on this origin. */
  returnTo: string
  /** Additional parameters from the page's `login({ params })`. */
  params?: Record<string, string>
  /** The session it was started from, if there was one. */
  session?: string
  /** The generation of the record that it was started from. */
  generation?: number
  /** Where the outcome is put for the one who waits for it. */
  report?: string
  /** Once the browser has left for the server: what the answer is checked with. */
  sent?: { nonce: string; verifier: string; redirectUri: string; dpopKey?: DpopKey }
}

/** What became of a transaction; kept for a second arrival of the same answer. */
export interface Outcome {
  kind: 'outcome'
  createdAt: number
  returnTo: string
  /** `exchanging` until the code has been redeemed: a stopped worker leaves it at that. */
  result: 'exchanging' | 'signed-in' | 'logged-out' | { error: TokenErrorData }
  /** While `exchanging`: a page of this scope waits for it to land, not a hidden frame. */
  login?: string
}

/** When what the server publishes was fetched: ms since 1970. */
interface StoredMetadata {
  metadata: AuthorizationServerMetadata
  fetchedAt: number
}

interface StoredKeys {
  keys: JsonWebKey[]
  fetchedAt: number
}

// What is read may have been written by any script of the origin, so nothing is known of its type.
interface Schema extends DBSchema {
  session: { key: 'current'; value: unknown }
  transactions: { key: string; value: unknown }
  server: { key: 'metadata' | 'keys' | 'dpop'; value: unknown }
}

/** What a store has to say beside its answers. */
export interface StoreEvents {
  /** The database has been taken away, or is about to be. */
  lost(): void
  /** The session record was none that can be used, so the session is over. */
  damaged(error: TokenError): void
  /** Nobody else knows this refresh token, and it belonged to a session that is over. */
  orphaned(refreshToken: string): void
}

/** What a value has to be: of a simple kind, or an object with these members and any others. */
type Kind = 'list' | 'number' | 'object' | 'printable' | 'string' | 'strings' | Shape
/** A `?` at the end of a name: it may be missing. */
interface Shape {
  [name: string]: Kind
}

const fits = (value: unknown, kind: Kind): boolean => {
  switch (kind) {
    case 'list':
      return Array.isArray(value)
    case 'number':
      // No NaN and no bigint, which spoil or break whatever is calculated with them.
      return Number.isFinite(value)
    case 'printable':
      // What no header takes would spoil every request.
      return fits(value, 'string') && /^[ -~]*$/.test(value as string)
    case 'string':
      return typeof value === 'string'
  }
  if (typeof value !== 'object' || !value) return false
  if (kind === 'strings') return Object.values(value).every((each) => fits(each, 'string'))
  return (
    kind === 'object' ||
    Object.entries(kind).every(([key, kind]) => {
      const [name = '', optional] = key.split('?')
      const member = (value as Record<string, unknown>)[name]
      return (optional !== undefined && member === undefined) || fits(member, kind)
    })
  )
}

const active: Shape = {
  generation: 'number',
  session: 'string',
  since: 'number',
  claims: 'object',
  'subject?': 'string',
  scope: 'string',
  'idToken?': 'string',
  'accessToken?': 'printable',
  accessTokenIssuedAt: 'number',
  'accessTokenExpiresAt?': 'number',
  'refreshToken?': 'string',
  'refreshSentAt?': 'number',
  'retry?': { failures: 'number', notBefore: 'number' },
  'silentLoginFailed?': { times: 'number', at: 'number' },
  protocolEndpoints: 'list',
}

const ended: Shape = { generation: 'number', reason: 'string' }

const transaction: Shape = {
  createdAt: 'number',
  returnTo: 'string',
  'params?': 'strings',
  'session?': 'string',
  'generation?': 'number',
  'report?': 'string',
  'sent?': { nonce: 'string', verifier: 'string', redirectUri: 'string' },
}

/** How a record looks without what `storage: 'memory'` keeps off the disk. */
const noTokens: Partial<ActiveRecord> & Record<string, unknown> = {
  accessToken: undefined,
  accessTokenIssuedAt: 0,
  accessTokenExpiresAt: undefined,
  refreshToken: undefined,
  refreshSentAt: undefined,
  idToken: undefined,
  dpopKey: undefined,
}

const tokensOf = (record: object): typeof noTokens =>
  Object.fromEntries(Object.keys(noTokens).map((name) => [name, (record as typeof noTokens)[name]]))

const openLimit = 3_000
const transactionLife = 3_600_000
const mostTransactions = 20

/** Errors of a database whose stores are missing or of another kind: not one that we made. */
const isForeign = (cause: unknown): boolean =>
  /^(Constraint|Data|NotFound)Error$/.test((cause as Error | undefined)?.name ?? '')

/**
 * The database of the worker, described in docs/storage.md: its name and stores are a contract
 * between worker versions that run side by side. Truth is in here; memory is a cache. Only with
 * `storage: 'memory'`, the tokens are in the memory of this worker and nowhere else.
 */
export const createStore = (
  { issuer, clientId, storage }: Pick<Config, 'issuer' | 'clientId'> & Partial<Config>,
  { now, wait, scope }: Pick<Platform, 'now' | 'wait' | 'scope'>,
  { lost, damaged, orphaned }: Partial<StoreEvents> = {},
) => {
  const name = `tokenward ${issuer} ${clientId}`
  const inMemory = storage === 'memory'
  let opening: Promise<IDBPDatabase<Schema>> | undefined
  /** The session that this worker has the tokens of, where the disk has none. */
  let held: ActiveRecord | undefined

  const forget = () => {
    opening = undefined
  }

  /** At most 3 s, for somebody else may keep the database from being opened or deleted. */
  const limited = async <T>(work: (late: AbortSignal) => Promise<T>): Promise<{ value: T }> => {
    const done = await withTimeLimit(wait, openLimit, async (late) => ({ value: await work(late) }))
    if (done) return done
    throw new Error('The database took too long.')
  }

  const open = async (): Promise<IDBPDatabase<Schema>> => {
    const { value } = await limited(async (late) => {
      // In whatever version it is there: stores are only ever added.
      const db = await openDB<Schema>(name, undefined, {
        upgrade: (db) => {
          db.createObjectStore('session')
          db.createObjectStore('transactions')
          db.createObjectStore('server')
        },
        blocking: (_current, _blocked, { target }) => {
          forget()
          ;(target as IDBDatabase).close()
          lost?.()
        },
        terminated: () => {
          forget()
          lost?.()
        },
      })
      if (late.aborted) db.close()
      return db
    })
    return value
  }

  // Strict, because a rotated refresh token that a power cut undoes is a lost session.
  const begin = <Name extends 'session' | 'transactions'>(
    db: IDBPDatabase<Schema>,
    stores: Name[],
  ) => {
    const tx = db.transaction(stores, 'readwrite', { durability: 'strict' })
    // Whoever waits for a request that fails does not get to wait for this one.
    tx.done.catch(() => {})
    return tx
  }

  /** Runs `work` on the database, once more on a new connection where the old one had gone. */
  const use = async <T>(
    work: (db: IDBPDatabase<Schema>) => Promise<T>,
    isLast = false,
  ): Promise<T> => {
    try {
      opening ??= open()
      return await work(await opening)
    } catch (cause) {
      forget()
      if (isLast) {
        throw new TokenError(
          'storage_failed',
          'The worker cannot use IndexedDB (private window, full disk, or blocked).',
          cause,
        )
      }
      if (isForeign(cause)) await limited(() => deleteDB(name)).catch(() => {})
      return await use(work, true)
    }
  }

  /**
   * One strict transaction that looks at one value and puts what `next` makes of it: `undefined`
   * leaves it, `null` removes it. Resolves, once that is on disk, with both. `parse` reads what
   * is there, `toDisk` says what is written.
   */
  const change = <Value extends object>(
    stores: ['session', 'transactions'] | ['transactions'],
    key: string,
    parse: (raw: unknown) => Value | undefined,
    next: (current: Value | undefined) => Value | null | undefined,
    toDisk: (value: Value, dropTransactions: () => unknown) => Value = (value) => value,
  ): Promise<{ before?: Value; after?: Value }> =>
    use(async (db) => {
      const tx = begin(db, stores)
      const store = tx.objectStore(stores[0])
      const before = parse(await store.get(key as 'current'))
      const wanted = next(before)
      if (wanted) {
        const value = toDisk(wanted, () => tx.objectStore('transactions').clear())
        await store.put(value, key as 'current')
      }
      if (wanted === null) await store.delete(key as 'current')
      await tx.done
      return { before, after: wanted === undefined ? before : (wanted ?? undefined) }
    })

  /** The record that can be made of what is on the disk, with the tokens that are not. */
  const recordOf = (raw: unknown): SessionRecord | undefined => {
    const { status } = Object(raw) as SessionRecord
    const isOne =
      (status === 'ended' && fits(raw, ended)) || (status === 'active' && fits(raw, active))
    const record = isOne ? (raw as SessionRecord) : undefined
    if (!inMemory) return record
    const current = record?.status === 'active' ? record : undefined
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
  ): Promise<{ before?: SessionRecord; after?: SessionRecord }> => {
    const result = await change<SessionRecord>(
      ['session', 'transactions'],
      'current',
      recordOf,
      (current) => {
        const wanted = next(current)
        return wanted && { ...wanted, generation: (current?.generation ?? 0) + 1 }
      },
      (record, dropTransactions) => {
        if (record.status === 'active') return inMemory ? { ...record, ...noTokens } : record
        // Whoever signs out does not want to come in by another tab.
        if (record.reason === 'logout') dropTransactions()
        return record
      },
    )
    // Not earlier: it may not have got to the disk.
    const { before, after } = result
    if (inMemory && after !== before) held = after?.status === 'active' ? after : undefined
    return result
  }

  const read = async (): Promise<SessionRecord | undefined> => {
    const raw = await use((db) => db.get('session', 'current'))
    const record = recordOf(raw)
    const isDamaged = raw !== undefined && !record
    if (isDamaged || (inMemory && Object.values(tokensOf(Object(raw))).some(Boolean))) {
      const repair = update((current) => {
        // With memory as the place of tokens, what a former version has left on the disk goes.
        if (current?.status === 'active') return current
        if (current) return
        damaged?.(
          new TokenError('storage_failed', 'The stored session cannot be read: it is over.'),
        )
        return { status: 'ended', generation: 0, reason: 'storage_cleared' }
      })
      // Next time, then.
      await repair.catch(() => {})
    }
    return record
  }

  const origin = new URL('/', scope()).href

  /** ms. A clock that was set back makes ages negative; those are not trusted either. */
  const age = ({ createdAt }: { createdAt: number }): number => Math.abs(now() - createdAt)

  const isResult = (result: unknown): boolean =>
    fits(result, 'string') || fits(result, { error: { code: 'string', message: 'string' } })

  /** The transaction or outcome, unless it is too old. */
  const entryOf = (raw: unknown): Transaction | Outcome | undefined => {
    if (!fits(raw, transaction)) return
    const entry = raw as Transaction | Outcome
    const isWhole = entry.kind === 'outcome' ? isResult(entry.result) : fits(entry.kind, 'string')
    const isUsable = isWhole && entry.returnTo.startsWith(origin) && age(entry) <= transactionLife
    return isUsable ? entry : undefined
  }

  const dropOld = () =>
    use(async (db) => {
      const tx = begin(db, ['transactions'])
      const store = tx.objectStore('transactions')
      const [keys, values] = await Promise.all([store.getAllKeys(), store.getAll()])
      const entries = keys.map((key, index) => ({ key, entry: entryOf(values[index]) }))
      const youngest = (isWanted: (kind: string) => boolean) =>
        entries
          .flatMap(({ key, entry }) => (entry && isWanted(entry.kind) ? { key, entry } : []))
          .sort((a, b) => age(a.entry) - age(b.entry))
          .slice(0, mostTransactions)
          .map(({ key }) => key)
      // Outcomes apart, so that they cannot push out a sign-in that is still under way.
      const keep = new Set([
        ...youngest((kind) => kind === 'outcome'),
        ...youngest((kind) => kind !== 'outcome'),
      ])
      await Promise.all(keys.map((key) => keep.has(key) || store.delete(key)))
      await tx.done
    })

  /** What is kept of the server, if it still looks like it. */
  const readPublished = async <T>(
    key: Schema['server']['key'],
    shape: Shape,
  ): Promise<T | undefined> => {
    const kept = await use((db) => db.get('server', key))
    return fits(kept, shape) ? (kept as T) : undefined
  }

  const writePublished = async (key: Schema['server']['key'], value: object): Promise<void> => {
    await use((db) => db.put('server', value, key))
  }

  return {
    name,

    /** Tokens are with this worker alone: when another one ends the session, they go too. */
    inMemory,

    read,

    /**
     * Changes the session record in one transaction. `next` sees the newest record and answers
     * with the next one (its generation is set here), or `undefined` to leave it as it is: then
     * `before` and `after` are the same object. So a stale copy never overwrites a newer record.
     */
    update,

    addTransaction: async (key: string, transaction: Transaction): Promise<void> => {
      await change(['transactions'], key, entryOf, () => transaction)
      await dropOld()
    },

    /** Takes a transaction away, so that nobody else can; `outcome` is left in its place. */
    takeTransaction: async (
      key: string,
      outcome: (transaction: Transaction) => Outcome | null,
    ): Promise<Transaction | Outcome | undefined> => {
      const { before } = await change(['transactions'], key, entryOf, (current) =>
        current && current.kind !== 'outcome' ? outcome(current) : undefined,
      )
      return before
    },

    readTransaction: async (key: string) => entryOf(await use((db) => db.get('transactions', key))),

    /** All transactions and outcomes, by their keys; what is too old is undefined. */
    listTransactions: () =>
      use(async (db) => {
        const tx = db.transaction('transactions')
        const [keys, values] = await Promise.all([tx.store.getAllKeys(), tx.store.getAll()])
        return values.map((value, index) => [keys[index] as string, entryOf(value)] as const)
      }),

    /** Puts an outcome, or removes it. */
    putOutcome: async (key: string, outcome: Outcome | null): Promise<void> => {
      await change(['transactions'], key, entryOf, () => outcome)
    },

    readMetadata: () =>
      readPublished<StoredMetadata>('metadata', { metadata: 'object', fetchedAt: 'number' }),

    writeMetadata: (metadata: AuthorizationServerMetadata) =>
      writePublished('metadata', { metadata, fetchedAt: now() }),

    readKeys: () => readPublished<StoredKeys>('keys', { keys: 'list', fetchedAt: 'number' }),

    writeKeys: (keys: JsonWebKey[]) => writePublished('keys', { keys, fetchedAt: now() }),

    readDpop: () => readPublished<DpopState>('dpop', { nonces: 'object' }),

    writeDpop: (state: DpopState) => writePublished('dpop', state),

    /**
     * Clears up, once in the life of a worker: transactions that are too old, and the database
     * that the worker at `place` had before its issuer or client was changed. What lies in there
     * is only deleted: to revoke it would need the metadata of a server that is not configured.
     */
    tidy: async (place: string): Promise<void> => {
      await dropOld()
      const { value: places } = await limited(() =>
        openDB('tokenward', undefined, { upgrade: (db) => void db.createObjectStore('places') }),
      )
      try {
        const former: unknown = await places.get('places', place)
        if (former === name) return
        const isOurs = String(former).startsWith('tokenward ')
        const users = (await places.getAll('places')).filter((each) => each === former)
        if (isOurs && users.length < 2) await limited(() => deleteDB(former as string))
        await places.put('places', name, place)
      } finally {
        places.close()
      }
    },
  }
}

export type Store = ReturnType<typeof createStore>
