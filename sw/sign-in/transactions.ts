import { TokenError, type TokenErrorData } from '../../src/shared/errors.js'
import type { Outcome, Store, Transaction } from '../session/store.js'

/** A ticket is for the navigation that follows at once. ms */
const ticketLife = 60_000

/** Keys are hashes, so that neither a ticket nor a `state` can be read from the database. */
export const keyOf = async (secret: string): Promise<string> => {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret))
  return btoa(String.fromCharCode(...new Uint8Array(hash)))
}

/** A path as a lenient server reads it: decoded, without regard to case and spare slashes. */
const lenient = (pathname: string): string =>
  unescape(pathname)
    .toLowerCase()
    .replace(/[\\/]+/g, '/')
    .replace(/\/$/, '')

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
  const isAuthPage = (path: string) =>
    authUrls.some((each) => lenient(new URL(each).pathname) === lenient(path))
  if (!url || !isOurs || isAuthPage(url.pathname)) {
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
  store: Pick<
    Store,
    'addTransaction' | 'takeTransaction' | 'readTransaction' | 'listTransactions' | 'putOutcome'
  >,
  now: () => number,
  randomValue: () => string,
  /** Scope of this worker: what another one has under way may still be in its hands. */
  scope: string,
  /** Keys of what this worker is busy with, so that it knows what an earlier one left undone. */
  busy = new Set<string>(),
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
    await store.addTransaction(await keyOf(state), transaction)
    return { state, transaction }
  },

  /**
   * Takes the transaction that an answer belongs to. Whoever comes second with the same `state`
   * gets the outcome instead, as far as there is one by then.
   */
  arrive: async (state: string | undefined): Promise<Transaction | Outcome | undefined> => {
    if (!state) return
    const exchanging = ({ kind, returnTo }: Transaction): Outcome => ({
      kind: 'outcome',
      createdAt: now(),
      returnTo,
      result: 'exchanging',
      login: kind === 'login' ? scope : undefined,
    })
    const key = await keyOf(state)
    const taken = await store.takeTransaction(key, (transaction) => {
      busy.add(key)
      return exchanging(transaction)
    })
    if (taken && taken.kind !== 'outcome' && taken.report) {
      await store.putOutcome(taken.report, { ...exchanging(taken), login: undefined })
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
    const key = await keyOf(state)
    await store.putOutcome(key, outcome)
    busy.delete(key)
    if (report) await store.putOutcome(report, outcome)
  },

  /**
   * Settles the sign-ins of this scope whose worker was stopped while it exchanged their code:
   * those from before `since` have led to the session that is there. Is there one that has not?
   */
  settleInterrupted: async (since: number, error: TokenErrorData): Promise<boolean> => {
    const undone = (await store.listTransactions()).filter(
      ([key, entry]) =>
        entry?.kind === 'outcome' &&
        entry.login === scope &&
        entry.result === 'exchanging' &&
        !busy.has(key),
    ) as [string, Outcome][]
    for (const [key, outcome] of undone) {
      const result = outcome.createdAt > since ? { error } : 'signed-in'
      await store.putOutcome(key, { ...outcome, result })
    }
    return undone.some(([, { createdAt }]) => createdAt > since)
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

  /** Keeps how it ended for the page that the browser is about to open. */
  leaveForPage: async (
    pageId: string,
    returnTo: string,
    result: Outcome['result'],
  ): Promise<void> => {
    const outcome: Outcome = { kind: 'outcome', createdAt: now(), returnTo, result }
    await store.putOutcome(`page ${pageId}`, outcome)
  },

  /** What was left for this page; it is told once. */
  takeForPage: async (pageId: string): Promise<Outcome['result'] | undefined> => {
    const key = `page ${pageId}`
    const found = await store.readTransaction(key)
    if (found?.kind !== 'outcome') return
    await store.putOutcome(key, null)
    return found.result
  },
})

export type Transactions = ReturnType<typeof createTransactions>
