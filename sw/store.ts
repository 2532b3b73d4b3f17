import { type DBSchema, type IDBPDatabase, openDB } from 'idb'
import { TokenError, type TokenErrorData } from '../src/shared/errors.js'
import type { Claims, SignedOutReason } from '../src/shared/protocol.js'
import type { AuthorizationServerMetadata } from './authorization-server.js'

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
   * Written before a refresh token is sent, removed with the answer: where it is found, nobody
   * knows whether the server has seen, and with that replaced, the refresh token.
   */
  refreshSentAt?: number
  /** Failed renewals in a row, and when the next one may be tried (ms since 1970). */
  retry?: { failures: number; notBefore: number }
  /** A hidden frame has signed in for this session before, so it is worth trying. */
  silentLoginWorks?: true
  /** Pages have been told that a sign-in is needed; they are told once. */
  loginRequired?: true
  /** Endpoints of the server that never get a token as if they were an API. */
  protocolEndpoints: string[]
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
  /** A logout's hint of whose session to end. */
  idToken?: string
  /** Where the outcome is put for the one who waits for it. */
  report?: string
  /** Once the browser has left for the server: what the answer is checked with. */
  sent?: { nonce: string; verifier: string; redirectUri: string; issuer: string }
}

/** What became of a transaction; kept for a second arrival of the same answer. */
export interface Outcome {
  kind: 'outcome'
  createdAt: number
  returnTo: string
  /** `exchanging` until the code has been redeemed: a stopped worker leaves it at that. */
  result: 'exchanging' | 'signed-in' | 'logged-out' | { error: TokenErrorData }
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

const storageFailed = (cause: unknown): TokenError =>
  new TokenError(
    'storage_failed',
    'The browser does not let the worker use IndexedDB (private mode, full disk, or blocked).',
    { cause, transient: true },
  )

/**
 * The database of the worker, described in docs/storage.md: its name and version are a contract
 * between worker versions that run side by side. Truth is in here; memory is a cache.
 */
export const createStore = (
  { issuer, clientId }: { issuer: string; clientId: string },
  { now, wait }: { now(): number; wait(ms: number, signal?: AbortSignal): Promise<void> },
) => {
  const name = `tokenward ${issuer} ${clientId}`
  let opening: Promise<IDBPDatabase<Schema>> | undefined

  const forget = () => {
    opening = undefined
  }

  const open = async (): Promise<IDBPDatabase<Schema>> => {
    const giveUp = new AbortController()
    const database = openDB<Schema>(name, schemaVersion, {
      upgrade: (db) => {
        db.createObjectStore('session')
        db.createObjectStore('transactions')
        db.createObjectStore('server')
      },
      blocking: (_current, _blocked, event) => {
        forget()
        ;(event.target as IDBDatabase).close()
      },
      terminated: forget,
    })
    const late = wait(openLimit, giveUp.signal).then(
      () => Promise.reject(new Error('opening the database took too long')),
      () => new Promise<never>(() => {}),
    )
    try {
      return await Promise.race([database, late])
    } finally {
      giveUp.abort()
    }
  }

  /** Runs `work` on the database, once more on a new connection where the old one had gone. */
  const use = async <T>(work: (db: IDBPDatabase<Schema>) => Promise<T>): Promise<T> => {
    for (let attempt = 0; ; attempt++) {
      try {
        opening ??= open()
        return await work(await opening)
      } catch (cause) {
        forget()
        if (attempt > 0) throw storageFailed(cause)
      }
    }
  }

  /** One strict transaction that looks at one value and puts what `change` makes of it. */
  const change = <Name extends 'session' | 'transactions'>(
    storeName: Name,
    key: Schema[Name]['key'],
    next: (
      current: Schema[Name]['value'] | undefined,
    ) => { put: Schema[Name]['value'] } | { remove: true } | undefined,
  ): Promise<Schema[Name]['value'] | undefined> =>
    use(async (db) => {
      // Strict, because a rotated refresh token that a power cut undoes is a lost session.
      const tx = db.transaction(storeName, 'readwrite', { durability: 'strict' })
      const current = await tx.store.get(key)
      const wanted = next(current)
      if (wanted && 'put' in wanted) await tx.store.put(wanted.put, key)
      if (wanted && 'remove' in wanted) await tx.store.delete(key)
      await tx.done
      return current
    })

  const dropOld = () =>
    use(async (db) => {
      const tx = db.transaction('transactions', 'readwrite')
      const [keys, values] = await Promise.all([tx.store.getAllKeys(), tx.store.getAll()])
      const entries = keys.flatMap((key, index) => {
        const value = values[index]
        return value
          ? { key, isOutcome: value.kind === 'outcome', age: now() - value.createdAt }
          : []
      })
      entries.sort((a, b) => a.age - b.age)
      const drop = (isOutcome: boolean) =>
        entries
          .filter((entry) => entry.isOutcome === isOutcome)
          // A clock that was set back makes ages negative; those are not trusted either.
          .filter(({ age }, rank) => rank >= mostTransactions || Math.abs(age) > transactionLife)
      const old = [...drop(true), ...drop(false)]
      await Promise.all(old.map(({ key }) => tx.store.delete(key)))
      await tx.done
    })

  return {
    name,

    read: (): Promise<SessionRecord | undefined> => use((db) => db.get('session', 'current')),

    /**
     * Changes the session record in one transaction. `change` sees the newest record and answers
     * with the next one (its generation is set here), or `undefined` to leave all as it is; so a
     * stale copy can never overwrite a newer record. Resolves, once it is on disk, with both.
     */
    update: async (
      next: (current: SessionRecord | undefined) => SessionRecord | undefined,
    ): Promise<{ before?: SessionRecord; after?: SessionRecord; changed: boolean }> => {
      let after: SessionRecord | undefined
      const before = await change('session', 'current', (current) => {
        const wanted = next(current)
        after = wanted && { ...wanted, generation: (current?.generation ?? 0) + 1 }
        return after && { put: after }
      })
      const latest = after ?? before
      return {
        ...(before && { before }),
        ...(latest && { after: latest }),
        changed: after !== undefined,
      }
    },

    addTransaction: async (key: string, transaction: Transaction): Promise<void> => {
      await change('transactions', key, () => ({ put: transaction }))
      await dropOld()
    },

    /** Takes a transaction away, so that nobody else can; leaves an outcome in its place. */
    takeTransaction: async (
      key: string,
      outcome?: (transaction: Transaction) => Outcome,
    ): Promise<Transaction | Outcome | undefined> => {
      const found = await change('transactions', key, (current) => {
        if (!current || current.kind === 'outcome') return
        return outcome ? { put: outcome(current) } : { remove: true }
      })
      return found && Math.abs(now() - found.createdAt) <= transactionLife ? found : undefined
    },

    readTransaction: (key: string) => use((db) => db.get('transactions', key)),

    putOutcome: async (key: string, outcome: Outcome): Promise<void> => {
      await change('transactions', key, () => ({ put: outcome }))
    },

    dropOutcome: async (key: string): Promise<void> => {
      await change('transactions', key, () => ({ remove: true }))
    },

    readMetadata: () => use((db) => db.get('server', 'metadata')),

    writeMetadata: async (metadata: AuthorizationServerMetadata): Promise<void> => {
      await use((db) => db.put('server', { metadata, fetchedAt: now() }, 'metadata'))
    },
  }
}

export type Store = ReturnType<typeof createStore>
