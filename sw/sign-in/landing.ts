import { asTokenError, type TokenError, toErrorData } from '../../src/shared/errors.js'
import type { AuthPage, Hello } from '../../src/shared/protocol.js'
import { type Arrival, isInFrame } from '../http/arrival.js'
import { activeOf, type Outcome, type Transaction } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import { redirectBack } from './auth-response.js'
import type { Transactions } from './transactions.js'

/** Where the browser lands after a visit of an auth page, and what the page there may know. */
export interface Landing {
  /**
   * Ends a visit by the window that came: a tab goes to a page of the app, a frame to the empty
   * page. A server may bring back in the one what has left in the other.
   */
  end(arrival: Arrival, returnTo?: string): Response
  /** Ends a visit that signed the user in. */
  succeed(arrival: Arrival, transaction: Transaction): Promise<Response>
  /**
   * Ends a visit that failed. The error gets to the page at which a tab lands, or, from a frame, to
   * all pages, unless somebody waits for this visit or has heard of it already (`isKnown`).
   */
  fail(
    arrival: Arrival,
    failure: { returnTo: string; error: TokenError; isKnown?: boolean },
  ): Promise<Response>
  /** Has a sign-in landed at this page, and what is the page to know of it? */
  newsFor(pageId: string): Promise<Pick<Hello, 'landed' | 'landing'>>
}

/** Was this begun for a hidden frame, rather than a tab? */
export const isSilent = ({ kind }: Pick<Transaction, 'kind'>): boolean =>
  kind === 'silent' || kind === 'check'

/** Why a sign-in was cut off, in words for the page: the cause if that is known. */
export const interrupted = (cause?: unknown): TokenError =>
  asTokenError(cause, 'login_interrupted', 'Signing in was cut off in the worker. Try again.')

/** Creates the landing. */
export function createLanding({
  config: { authUrls, root },
  transactions,
  session,
}: {
  config: { authUrls: Readonly<Record<AuthPage, string>>; root: string }
  transactions: Pick<Transactions, 'leaveForPage' | 'takeForPage' | 'settleInterrupted'>
  session: Pick<WorkerSession, 'read' | 'reportProblem'>
}): Landing {
  const end: Landing['end'] = ({ request }, returnTo = root) =>
    redirectBack(isInFrame(request) ? authUrls.done : returnTo)

  /** Ends a visit; the page at which a tab lands gets the result. */
  const land = async (arrival: Arrival, returnTo: string, result: Outcome['result']) => {
    if (!isInFrame(arrival.request)) {
      await transactions.leaveForPage(arrival.pageId, returnTo, result)
    }
    return end(arrival, returnTo)
  }

  return {
    end,

    succeed: (arrival, { returnTo }) =>
      land(arrival, returnTo, 'signed-in').catch(() => end(arrival, returnTo)),

    fail: async (arrival, { returnTo, error, isKnown }) => {
      if (isInFrame(arrival.request) && !isKnown) await session.reportProblem(error)
      return await land(arrival, returnTo, { error: toErrorData(error) })
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
