import { TokenError, type TokenErrorData } from '../src/shared/errors.js'
import type { Outcome, Store, Transaction } from './store.js'

/** A ticket is for the navigation that follows at once. ms */
const ticketLife = 60_000

/** Keys are hashes, so that neither a ticket nor a `state` can be read from the database. */
const keyOf = async (secret: string): Promise<string> => {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret))
  return btoa(String.fromCharCode(...new Uint8Array(hash)))
}

/**
 * The return URL of a page, made absolute: on this origin, and none of the auth pages.
 *
 * @throws TokenError `invalid_input`
 */
export const safeReturnTo = (
  value: string | undefined,
  root: string,
  authUrls: readonly string[],
): string => {
  const base = new URL(root)
  if (value === undefined) return base.href
  const url = URL.canParse(value, base) ? new URL(value, base) : undefined
  const isOurs =
    url?.protocol === base.protocol && url.origin === base.origin && !url.username && !url.password
  if (!url || !isOurs || authUrls.includes(url.origin + url.pathname)) {
    throw new TokenError(
      'invalid_input',
      "returnTo must be a URL of this app's own origin, and none of the auth pages.",
    )
  }
  return url.href
}

/**
 * Ways to the authorization server and back. A page begins one and gets a ticket for a single
 * navigation; the worker trades the ticket for a `state` as the browser leaves, and takes the
 * transaction by that `state`, once, when it comes back.
 */
export const createTransactions = (
  store: Pick<Store, 'addTransaction' | 'takeTransaction' | 'readTransaction' | 'putOutcome'>,
  now: () => number,
  randomValue: () => string,
) => ({
  /** Begins a transaction; the answer is its ticket. */
  begin: async (transaction: Omit<Transaction, 'createdAt'>): Promise<string> => {
    const ticket = randomValue()
    await store.addTransaction(await keyOf(ticket), { ...transaction, createdAt: now() })
    return ticket
  },

  /** Trades a ticket for the transaction and a new `state`; a ticket works once, for a minute. */
  depart: async (
    ticket: string | null,
    kinds: readonly Transaction['kind'][],
    sent?: Transaction['sent'],
  ): Promise<{ state: string; transaction: Transaction } | undefined> => {
    if (!ticket) return
    const report = await keyOf(ticket)
    const found = await store.takeTransaction(report, () => null)
    if (!found || found.kind === 'outcome' || !kinds.includes(found.kind)) return
    // A `state`, which the server knows: its transaction has departed before.
    if (found.report !== undefined) return
    if (now() - found.createdAt > ticketLife) return
    const state = randomValue()
    const transaction: Transaction = { ...found, report, sent }
    await store.addTransaction(await keyOf(state), { ...transaction, idToken: undefined })
    return { state, transaction }
  },

  /**
   * Takes the transaction that an answer belongs to. Whoever comes second with the same `state`
   * gets the outcome instead, as far as there is one by then.
   */
  arrive: async (state: string | undefined): Promise<Transaction | Outcome | undefined> => {
    if (!state) return
    const exchanging = ({ returnTo }: Transaction): Outcome => ({
      kind: 'outcome',
      createdAt: now(),
      returnTo,
      result: 'exchanging',
    })
    const taken = await store.takeTransaction(await keyOf(state), exchanging)
    if (taken && taken.kind !== 'outcome' && taken.report) {
      await store.putOutcome(taken.report, exchanging(taken))
    }
    return taken
  },

  /** Writes down how it ended, for a second arrival and for the one who waits. */
  finish: async (
    state: string,
    { returnTo, report }: Transaction,
    result: Outcome['result'],
  ): Promise<void> => {
    const outcome: Outcome = { kind: 'outcome', createdAt: now(), returnTo, result }
    await store.putOutcome(await keyOf(state), outcome)
    if (report) await store.putOutcome(report, outcome)
  },

  /** How the transaction with this ticket ended, if it has. */
  outcomeOf: async (ticket: string): Promise<Outcome['result'] | undefined> => {
    const found = await store.readTransaction(await keyOf(ticket))
    return found?.kind === 'outcome' ? found.result : undefined
  },

  /** Has nobody come with this ticket yet? */
  isUnused: async (ticket: string): Promise<boolean> => {
    const found = await store.readTransaction(await keyOf(ticket))
    return found !== undefined && found.kind !== 'outcome'
  },

  /** Keeps a failure for the page that the browser is about to open. */
  leaveForPage: async (pageId: string, returnTo: string, error: TokenErrorData): Promise<void> => {
    const outcome: Outcome = { kind: 'outcome', createdAt: now(), returnTo, result: { error } }
    await store.putOutcome(`page ${pageId}`, outcome)
  },

  /** What was left for this page; it is told once. */
  takeForPage: async (pageId: string): Promise<TokenErrorData | undefined> => {
    const key = `page ${pageId}`
    const found = await store.readTransaction(key)
    if (found?.kind !== 'outcome' || typeof found.result !== 'object') return
    await store.putOutcome(key, null)
    return found.result.error
  },
})

export type Transactions = ReturnType<typeof createTransactions>
