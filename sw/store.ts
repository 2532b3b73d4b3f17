import { type DBSchema, type IDBPDatabase, openDB } from 'idb'
import { TokenError, type TokenErrorData } from '../src/shared/errors.js'
import type { Claims, SignedOutReason } from '../src/shared/protocol.js'
import type { AuthorizationServerMetadata } from './authorization-server.js'
import type { Platform } from './platform.js'
import { withTimeLimit } from './time-limit.js'

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
  /** Pages have been told that a sign-in is needed; they are told once. */
  loginRequired?: true
  /** Endpoints of the server that never get a token as if they were an API. */
  protocolEndpoints: readonly string[]
}

/** Nobody is signed in (any more). */
export interface EndedRecord {
  status: 'ended'
  generation: number
  reason: SignedOutReason
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
  /** A logout's hint of whose session to end. */
  idToken?: string
  /** Where the outcome is put for the one who waits for it. */
  report?: string
  /** Once the browser has left for the server: what the answer is checked with. */
  sent?: { nonce: string; verifier: string; redirectUri: string }
}

/** What became of a transaction; kept for a second arrival of the same answer. */
export interface Outcome {
  kind: 'outcome'
  createdAt: number
  returnTo: string
  /** `exchanging` until the code has been redeemed: a stopped worker leaves it at that. */
  result: 'exchanging' | 'signed-in' | 'logged-out' | { error: TokenErrorData }
  /** While `exchanging`: a page waits for it to land, not a hidden frame. */
  login?: true
}

interface Schema extends DBSchema {
  session: { key: 'current'; value: SessionRecord }
  transactions: { key: string; value: Transaction | Outcome }
  server: { key: 'metadata'; value: { metadata: AuthorizationServerMetadata; fetchedAt: number } }
}

const schemaVersion = 1
const openLimit = 3_000
const transactionLife = 3_600_000
const mostTransactions = 20

/**
 * The database of the worker, described in docs/storage.md: its name and version are a contract
 * between worker versions that run side by side. Truth is in here; memory is a cache.
 */
export const createStore = (
  { issuer, clientId }: { issuer: string; clientId: string },
  { now, wait }: Pick<Platform, 'now' | 'wait'>,
) => {
  const name = `tokenward ${issuer} ${clientId}`
  let opening: Promise<IDBPDatabase<Schema>> | undefined

  const forget = () => {
    opening = undefined
  }

  const open = async (): Promise<IDBPDatabase<Schema>> => {
    const db = await withTimeLimit(wait, openLimit, () =>
      openDB<Schema>(name, schemaVersion, {
        upgrade: (db) => {
          db.createObjectStore('session')
          db.createObjectStore('transactions')
          db.createObjectStore('server')
        },
        blocking: (_current, _blocked, { target }) => {
          forget()
          ;(target as IDBDatabase).close()
        },
        terminated: forget,
      }),
    )
    if (db) return db
    throw new Error('Opening the database took too long.')
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
      if (!isLast) return await use(work, true)
      throw new TokenError(
        'storage_failed',
        'The worker cannot use IndexedDB (private window, full disk, or blocked).',
        cause,
      )
    }
  }

  /**
   * One strict transaction that looks at one value and puts what `next` makes of it: `undefined`
   * leaves it, `null` removes it. Resolves, once that is on disk, with both.
   */
  const change = <Name extends 'session' | 'transactions'>(
    storeName: Name,
    key: Schema[Name]['key'],
    next: (current: Schema[Name]['value'] | undefined) => Schema[Name]['value'] | null | undefined,
  ): Promise<{ before?: Schema[Name]['value']; after?: Schema[Name]['value'] }> =>
    use(async (db) => {
      // Strict, because a rotated refresh token that a power cut undoes is a lost session.
      const tx = db.transaction(storeName, 'readwrite', { durability: 'strict' })
      const before = await tx.store.get(key)
      const wanted = next(before)
      if (wanted) await tx.store.put(wanted, key)
      if (wanted === null) await tx.store.delete(key)
      await tx.done
      return { before, after: wanted === undefined ? before : (wanted ?? undefined) }
    })

  /** ms. A clock that was set back makes ages negative; those are not trusted either. */
  const age = ({ createdAt }: { createdAt: number }): number => Math.abs(now() - createdAt)

  const isOld = (value: { createdAt: number }): boolean => age(value) > transactionLife

  const dropOld = () =>
    use(async (db) => {
      const tx = db.transaction('transactions', 'readwrite')
      const [keys, values] = await Promise.all([tx.store.getAllKeys(), tx.store.getAll()])
      const entries = values.map((value, index) => ({ ...value, key: keys[index] as string }))
      entries.sort((a, b) => age(a) - age(b))
      // Outcomes apart, so that they cannot push out a sign-in that is still under way.
      const outcomes = entries.filter(({ kind }) => kind === 'outcome')
      const open = entries.filter(({ kind }) => kind !== 'outcome')
      const drop = [
        ...outcomes.slice(mostTransactions),
        ...open.slice(mostTransactions),
        ...entries.filter(isOld),
      ]
      await Promise.all(drop.map(({ key }) => tx.store.delete(key)))
      await tx.done
    })

  return {
    name,

    read: (): Promise<SessionRecord | undefined> => use((db) => db.get('session', 'current')),

    /**
     * Changes the session record in one transaction. `next` sees the newest record and answers
     * with the next one (its generation is set here), or `undefined` to leave it as it is: then
     * `before` and `after` are the same object. So a stale copy never overwrites a newer record.
     */
    update: (next: (current: SessionRecord | undefined) => SessionRecord | undefined) =>
      change('session', 'current', (current) => {
        const wanted = next(current)
        return wanted && { ...wanted, generation: (current?.generation ?? 0) + 1 }
      }),

    addTransaction: async (key: string, transaction: Transaction): Promise<void> => {
      await change('transactions', key, () => transaction)
      await dropOld()
    },

    /** Takes a transaction away, so that nobody else can; `outcome` is left in its place. */
    takeTransaction: async (
      key: string,
      outcome: (transaction: Transaction) => Outcome | null,
    ): Promise<Transaction | Outcome | undefined> => {
      const { before } = await change('transactions', key, (current) =>
        current && current.kind !== 'outcome' ? outcome(current) : undefined,
      )
      return before && !isOld(before) ? before : undefined
    },

    readTransaction: (key: string) => use((db) => db.get('transactions', key)),

    /** All transactions and outcomes, by their keys. */
    listTransactions: () =>
      use(async (db) => {
        const tx = db.transaction('transactions')
        const [keys, values] = await Promise.all([tx.store.getAllKeys(), tx.store.getAll()])
        return values.map((value, index) => [keys[index] as string, value] as const)
      }),

    /** Puts an outcome, or removes it. */
    putOutcome: async (key: string, outcome: Outcome | null): Promise<void> => {
      await change('transactions', key, () => outcome)
    },

    readMetadata: () => use((db) => db.get('server', 'metadata')),

    writeMetadata: async (metadata: AuthorizationServerMetadata): Promise<void> => {
      await use((db) => db.put('server', { metadata, fetchedAt: now() }, 'metadata'))
    },
  }
}

export type Store = ReturnType<typeof createStore>
