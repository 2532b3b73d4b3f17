import type { Platform } from '../platform.js'
import { timeBetween } from '../values/age.js'
import type { Database } from './database.js'
import type { Outcome, Transaction } from './records.js'
import { transactionIn } from './stored-shapes.js'

/** The transactions and outcomes on the disk, by hashes of their tickets and states. */
export interface StoredTransactions {
  addTransaction(key: string, transaction: Transaction): Promise<void>
  /** Takes a transaction away, so that it is used once; `outcome` takes its place. */
  takeTransaction(
    key: string,
    outcome: (transaction: Transaction) => Outcome | null,
  ): Promise<Transaction | Outcome | undefined>
  readTransaction(key: string): Promise<Transaction | Outcome | undefined>
  /** All transactions and outcomes by their keys; one that is too old is undefined. */
  listTransactions(): Promise<(readonly [string, Transaction | Outcome | undefined])[]>
  /** Puts an outcome, or removes it. */
  putOutcome(key: string, outcome: Outcome | null): Promise<void>
  dropOldTransactions(): Promise<void>
}

/** ms */
const transactionLife = 3_600_000
/** Of each kind, transactions and outcomes, the youngest are kept. */
const mostTransactions = 20

/** Keeps transactions for an hour, and at most forty entries. */
export function createStoredTransactions({
  database,
  platform,
}: {
  database: Database
  platform: Pick<Platform, 'now' | 'scope'>
}): StoredTransactions {
  const origin = new URL('/', platform.scope()).href
  // A clock that is set back must not end a sign-in that is under way.
  const age = ({ createdAt }: { createdAt: number }) => timeBetween(createdAt, platform.now())

  /** The transaction or outcome, unless it is too old or leads to another origin. */
  const entryOf = (raw: unknown): Transaction | Outcome | undefined => {
    const entry = transactionIn(raw)
    const isUsable = entry?.returnTo.startsWith(origin) && age(entry) <= transactionLife
    return isUsable ? entry : undefined
  }

  const dropOldTransactions = () =>
    database.keepTransactions((all) => {
      const entries = all.map(([key, raw]) => ({ key, entry: entryOf(raw) }))
      const youngest = (isWanted: (kind: string) => boolean) =>
        entries
          .flatMap(({ key, entry }) => (entry && isWanted(entry.kind) ? { key, entry } : []))
          .sort((a, b) => age(a.entry) - age(b.entry))
          .slice(0, mostTransactions)
          .map(({ key }) => key)
      // Outcomes apart, so that they cannot push out a sign-in that is still under way.
      return new Set([
        ...youngest((kind) => kind === 'outcome'),
        ...youngest((kind) => kind !== 'outcome'),
      ])
    })

  const change = (
    key: string,
    next: (current: Transaction | Outcome | undefined) => Transaction | Outcome | null | undefined,
  ) => database.change({ stores: ['transactions'], key, parse: entryOf, next })

  return {
    dropOldTransactions,

    addTransaction: async (key, transaction) => {
      await change(key, () => transaction)
      await dropOldTransactions()
    },

    takeTransaction: async (key, outcome) => {
      const { before } = await change(key, (current) =>
        current && current.kind !== 'outcome' ? outcome(current) : undefined,
      )
      return before
    },

    readTransaction: async (key) => entryOf(await database.read('transactions', key)),

    listTransactions: async () =>
      (await database.readTransactions()).map(([key, raw]) => [key, entryOf(raw)] as const),

    putOutcome: async (key, outcome) => {
      await change(key, () => outcome)
    },
  }
}
