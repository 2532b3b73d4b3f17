import { TokenError, type TokenErrorData } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type {
  BegunTransaction,
  DepartedTransaction,
  Outcome,
  RequestSecrets,
  Transaction,
} from '../session/records.js'
import type { Store } from '../session/store.js'
import { base64 } from '../values/base64.js'
import { randomId } from '../values/random-id.js'
import { sha256 } from '../values/sha256.js'

/**
 * Ways to the authorization server and back. A page begins one and gets a ticket for a single
 * navigation; the worker trades the ticket for a `state` as the browser leaves, and takes the
 * transaction by that `state`, once, when the browser comes back.
 */
export interface Transactions {
  /** Begins a transaction; the answer is its ticket. */
  begin(transaction: Omit<BegunTransaction, 'createdAt' | 'report'>): Promise<string>
  /** Trades a ticket for the transaction and a new `state`; a ticket works once, for a minute. */
  depart(
    ticket: string | null,
    kinds: readonly Transaction['kind'][],
    sent?: RequestSecrets,
  ): Promise<{ state: string; transaction: DepartedTransaction } | undefined>
  /**
   * Takes the transaction that an answer belongs to. A second arrival with the same `state` gets
   * the outcome instead.
   */
  arrive(state: string | undefined): Promise<Transaction | Outcome | undefined>
  /**
   * Takes the youngest logout that is under way, and gives where it ends: some servers send no
   * `state` back.
   */
  takeLogout(): Promise<string | undefined>
  /** Writes down how it ended, for a second arrival and for the one who waits. */
  finish(state: string, transaction: Transaction, result: Outcome['result']): Promise<void>
  /**
   * Settles the sign-ins of this scope whose worker was stopped while it exchanged their code:
   * those from before `since` have led to the present session. True if one has not.
   */
  settleInterrupted(since: number, error: TokenErrorData): Promise<boolean>
  /** How the transaction with this ticket ended, if it has. */
  outcomeOf(ticket: string): Promise<Outcome['result'] | undefined>
  /** Is this ticket still to be used? */
  isUnused(ticket: string): Promise<boolean>
  /** Keeps how it ended for the page that the browser is about to open. */
  leaveForPage(pageId: string, returnTo: string, result: Outcome['result']): Promise<void>
  /** What was left for this page; it is given out once. */
  takeForPage(pageId: string): Promise<Outcome['result'] | undefined>
}

/** A ticket is for the navigation that follows at once. ms */
const ticketLife = 60_000

/** Keys are hashes, so that neither a ticket nor a `state` can be read from the database. */
export const keyOf = async (secret: string): Promise<string> => base64(await sha256(secret))

/** A path as a lenient server reads it: decoded, without regard to case and spare slashes. */
const lenient = (pathname: string): string =>
  unescape(pathname)
    .toLowerCase()
    .replace(/[\\/]+/g, '/')
    .replace(/\/$/, '')

/**
 * The return URL of a page, made absolute: on this origin, and not an auth page.
 *
 * @throws TokenError `invalid_input`
 */
export const safeReturnTo = (
  value: string | undefined,
  { root, authUrls }: { root: string; authUrls: Readonly<Record<string, string>> },
): string => {
  const base = new URL(root)
  if (value === undefined) return base.href
  const url = URL.canParse(value, base) ? new URL(value, base) : undefined
  const isOurs =
    url?.protocol === base.protocol && url.origin === base.origin && !url.username && !url.password
  const isAuthPage = (path: string) =>
    Object.values(authUrls).some((each) => lenient(new URL(each).pathname) === lenient(path))
  if (!url || !isOurs || isAuthPage(url.pathname)) {
    throw new TokenError(
      'invalid_input',
      "returnTo must be a URL of this app's own origin, and none of the auth pages.",
    )
  }
  return url.href
}

/** Takes the youngest of the logouts that are at the server, and gives its return URL. */
const takeLogout = async (
  store: Pick<Store, 'listTransactions' | 'takeTransaction' | 'putOutcome'>,
  end: (returnTo: string) => Outcome,
): Promise<string | undefined> => {
  const [youngest] = (await store.listTransactions())
    .flatMap(([key, entry]) =>
      entry?.kind === 'logout' && entry.report ? [{ ...entry, key, report: entry.report }] : [],
    )
    .sort((a, b) => b.createdAt - a.createdAt)
  if (!youngest) return
  const { key, report, returnTo } = youngest
  await store.takeTransaction(key, () => end(returnTo))
  await store.putOutcome(report, end(returnTo))
  return returnTo
}

/** Creates the transactions of the worker at `root`: one elsewhere has others under way. */
export function createTransactions({
  config: { root },
  store,
  platform: { now },
}: {
  config: { root: string }
  store: Pick<
    Store,
    'addTransaction' | 'takeTransaction' | 'readTransaction' | 'listTransactions' | 'putOutcome'
  >
  platform: Pick<Platform, 'now'>
}): Transactions {
  /** Keys of what this worker is busy with: the rest was left undone by an earlier one. */
  const busy = new Set<string>()

  const outcome = (returnTo: string, result: Outcome['result'], login?: string): Outcome => ({
    ...{ kind: 'outcome', createdAt: now(), returnTo, result, login },
  })

  return {
    begin: async (transaction) => {
      const ticket = randomId()
      await store.addTransaction(await keyOf(ticket), { ...transaction, createdAt: now() })
      return ticket
    },

    depart: async (ticket, kinds, sent) => {
      if (!ticket) return
      const report = await keyOf(ticket)
      const found = await store.takeTransaction(report, () => null)
      if (!found || found.kind === 'outcome' || !kinds.includes(found.kind)) return
      // A `state`, which the server knows: its transaction has departed before.
      if (found.report !== undefined) return
      if (now() - found.createdAt > ticketLife) return
      const state = randomId()
      const transaction = { ...found, report, sent }
      await store.addTransaction(await keyOf(state), transaction)
      return { state, transaction }
    },

    arrive: async (state) => {
      if (!state) return
      const key = await keyOf(state)
      const taken = await store.takeTransaction(key, ({ kind, returnTo }) => {
        busy.add(key)
        return outcome(returnTo, 'exchanging', kind === 'login' ? root : undefined)
      })
      if (taken && taken.kind !== 'outcome' && taken.report) {
        await store.putOutcome(taken.report, outcome(taken.returnTo, 'exchanging'))
      }
      return taken
    },

    takeLogout: () => takeLogout(store, (returnTo) => outcome(returnTo, 'logged-out')),

    finish: async (state, { returnTo, report }, result) => {
      const ended = outcome(returnTo, result)
      const key = await keyOf(state)
      await store.putOutcome(key, ended)
      busy.delete(key)
      if (report) await store.putOutcome(report, ended)
    },

    settleInterrupted: async (since, error) => {
      const isUndone = (key: string, entry: Outcome): boolean =>
        entry.login === root && entry.result === 'exchanging' && !busy.has(key)
      const undone = (await store.listTransactions()).flatMap(([key, entry]) =>
        entry?.kind === 'outcome' && isUndone(key, entry) ? [[key, entry] as const] : [],
      )
      for (const [key, outcome] of undone) {
        const result = outcome.createdAt > since ? { error } : 'signed-in'
        await store.putOutcome(key, { ...outcome, result })
      }
      return undone.some(([, { createdAt }]) => createdAt > since)
    },

    outcomeOf: async (ticket) => {
      const found = await store.readTransaction(await keyOf(ticket))
      return found?.kind === 'outcome' ? found.result : undefined
    },

    isUnused: async (ticket) => {
      const found = await store.readTransaction(await keyOf(ticket))
      return found !== undefined && found.kind !== 'outcome'
    },

    leaveForPage: (pageId, returnTo, result) =>
      store.putOutcome(`page ${pageId}`, outcome(returnTo, result)),

    takeForPage: async (pageId) => {
      const key = `page ${pageId}`
      const found = await store.readTransaction(key)
      if (found?.kind !== 'outcome') return
      await store.putOutcome(key, null)
      return found.result
    },
  }
}
