import { asTokenError, type TokenError, toErrorData } from '../../src/shared/errors.js'
import type { AuthPage, Hello } from '../../src/shared/protocol.js'
import type { Arrival } from '../http/arrival.js'
import { activeOf, type Transaction } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import { redirectBack } from './auth-response.js'
import type { Transactions } from './transactions.js'

/** Where the browser lands after a visit of an auth page, and what the page there may know. */
export interface Landing {
  /** Lands a visit that signed the user in. */
  succeed(arrival: Arrival, transaction: Transaction): Promise<Response>
  /** Lands a visit that failed: a hidden frame just ends, a tab lands in the app with the error. */
  fail(
    arrival: Arrival,
    failure: { returnTo: string; error: TokenError; silent?: boolean },
  ): Promise<Response>
  /** Has a sign-in landed at this page, and what is the page to know of it? */
  newsFor(pageId: string): Promise<Pick<Hello, 'landed' | 'landing'>>
}

/** Does a hidden frame wait for this transaction, rather than a tab? */
export const isSilent = ({ kind }: Pick<Transaction, 'kind'>): boolean =>
  kind === 'silent' || kind === 'check'

/** Why a sign-in was cut off, in words for the page: the cause if that is known. */
export const interrupted = (cause?: unknown): TokenError =>
  asTokenError(cause, 'login_interrupted', 'Signing in was cut off in the worker. Try again.')

/** Creates the landing. */
export function createLanding({
  config: { authUrls },
  transactions,
  session,
}: {
  config: { authUrls: Readonly<Record<AuthPage, string>> }
  transactions: Pick<Transactions, 'leaveForPage' | 'takeForPage' | 'settleInterrupted'>
  session: Pick<WorkerSession, 'read'>
}): Landing {
  return {
    succeed: async ({ pageId }, transaction) => {
      if (isSilent(transaction)) return redirectBack(authUrls.done)
      const { returnTo } = transaction
      await transactions.leaveForPage(pageId, returnTo, 'signed-in').catch(() => {})
      return redirectBack(returnTo)
    },

    fail: async ({ request, pageId }, { returnTo, error, silent = false }) => {
      if (silent || request.destination === 'iframe') return redirectBack(authUrls.done)
      await transactions.leaveForPage(pageId, returnTo, { error: toErrorData(error) })
      return redirectBack(returnTo)
    },

    newsFor: async (pageId) => {
      const result = await transactions.takeForPage(pageId)
      if (result) {
        return { landed: true, landing: typeof result === 'object' ? result.error : undefined }
      }
      // If the worker is stopped on the way, the browser lands at the network's callback page, and
      // comes here by its link.
      const since = activeOf(await session.read())?.since ?? 0
      const error = toErrorData(interrupted())
      return (await transactions.settleInterrupted(since, error)) ? { landing: error } : {}
    },
  }
}
