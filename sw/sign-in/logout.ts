import type { AuthPage, LogoutStart } from '../../src/shared/protocol.js'
import type { Arrival } from '../http/arrival.js'
import type { AuthorizationServer } from '../server/authorization-server.js'
import { hintOf } from '../session/active-record.js'
import type { WorkerSession } from '../session/session.js'
import { redirectTo } from './auth-response.js'
import type { Landing } from './landing.js'
import { safeReturnTo, type Transactions } from './transactions.js'

/** Signing out: forget first, whatever the network does; then the server's own session. */
export interface Logout {
  /**
   * Forgets the session and publishes its end; revoking goes on behind it, in `keepAlive`. The
   * answer says where the page goes next.
   */
  begin(
    input: { returnTo?: string; local?: boolean },
    keepAlive: (work: Promise<unknown>) => void,
  ): Promise<LogoutStart>
  /** `logout.html`: out with a ticket, back with the `state` it was traded for, or with nothing. */
  visit(arrival: Arrival): Promise<Response>
  /** Did the server send the browser back from the logout that began at this URL? */
  outcome(url: string): Promise<{ server: 'ended' | 'unknown' }>
}

const ticketOf = (url: URL): string | null => url.searchParams.get('ticket')

/** Creates the sign-out. */
export function createLogout({
  config: { authUrls, root },
  server,
  transactions,
  session,
  landing,
}: {
  config: { authUrls: Readonly<Record<AuthPage, string>>; root: string }
  server: Pick<AuthorizationServer, 'logoutUrl' | 'checkHint' | 'revoke' | 'isReachable'>
  transactions: Pick<
    Transactions,
    'begin' | 'depart' | 'arrive' | 'takeLogout' | 'finish' | 'outcomeOf'
  >
  session: Pick<WorkerSession, 'end'>
  landing: Pick<Landing, 'end'>
}): Logout {
  /**
   * The ID token of the session that the next visit with this ticket ends. It stays off the disk,
   * where a sign-out leaves nothing: if the worker is stopped meanwhile, the server asks the user.
   */
  let hint: { ticket: string; idToken?: string } | undefined

  /** Can the server be reached, and does it offer a logout? */
  const canEndAtServer = async (): Promise<boolean> => {
    try {
      return (await server.isReachable()) && (await server.logoutUrl('')) !== undefined
    } catch {
      return false
    }
  }

  return {
    begin: async (input, keepAlive) => {
      const returnTo = safeReturnTo(input.returnTo, { root, authUrls })
      const ended = await session.end('logout')
      if (ended?.refreshToken !== undefined) keepAlive(server.revoke(ended.refreshToken))
      const back = input.returnTo === undefined && input.local ? {} : { url: returnTo }
      if (input.local) return { ...back, atServer: false }
      const [canEnd, idToken] = await Promise.all([
        canEndAtServer(),
        server.checkHint(hintOf(ended)),
      ])
      if (!canEnd) return { ...back, atServer: false }
      const ticket = await transactions.begin({ kind: 'logout', returnTo })
      hint = { ticket, idToken }
      return { url: `${authUrls.logout}?ticket=${ticket}`, atServer: true }
    },

    visit: async (arrival) => {
      const { url } = arrival
      const ticket = ticketOf(url)
      const idToken = hint?.ticket === ticket ? hint?.idToken : undefined
      const departure = await transactions.depart(ticket, ['logout'])
      if (departure) {
        hint = undefined
        const away = await server.logoutUrl(departure.state, idToken).catch(() => undefined)
        return away === undefined
          ? landing.end(arrival, departure.transaction.returnTo)
          : redirectTo(away)
      }
      const state = url.searchParams.get('state') ?? undefined
      if (!url.search) return landing.end(arrival, await transactions.takeLogout())
      const transaction = await transactions.arrive(state)
      if (!transaction || state === undefined) return landing.end(arrival)
      if (transaction.kind === 'logout') await transactions.finish(state, transaction, 'logged-out')
      return landing.end(arrival, transaction.returnTo)
    },

    outcome: async (url) => {
      const ticket = URL.canParse(url) ? ticketOf(new URL(url)) : null
      const result = ticket === null ? undefined : await transactions.outcomeOf(ticket)
      return { server: result === 'logged-out' ? 'ended' : 'unknown' }
    },
  }
}
