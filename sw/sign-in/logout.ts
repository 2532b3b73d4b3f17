import type { LogoutStart } from '../../src/shared/protocol.js'
import type { Config } from '../options/options.js'
import type { AuthorizationServer } from '../server/authorization-server.js'
import type { WorkerSession } from '../session/session.js'
import { redirectBack, redirectTo } from './auth-response.js'
import { safeReturnTo, type Transactions } from './transactions.js'

/** Signing out: forget first, whatever the network does; then tell the server. */
export const createLogout = (
  { authUrls, root }: Pick<Config, 'authUrls' | 'root'>,
  server: Pick<AuthorizationServer, 'logoutUrl' | 'revoke' | 'isReachable'>,
  transactions: Transactions,
  session: Pick<WorkerSession, 'end'>,
) => {
  /**
   * Whose session the next visit with this ticket is to end. Not on the disk, where nothing of the
   * session may be left: if the worker is stopped in this moment, the server asks the user.
   */
  let hint: { ticket: string; idToken?: string } | undefined

  /** Is there a server to go to, and a way to end its session? */
  const canEndAtServer = async (): Promise<boolean> => {
    try {
      return (await server.isReachable()) && (await server.logoutUrl('')) !== undefined
    } catch {
      return false
    }
  }

  const ticketOf = (url: URL): string | null => url.searchParams.get('ticket')

  return {
    /**
     * Forgets the session and tells every page; revoking goes on behind it, in `keepAlive`. The
     * answer says where the page goes next.
     */
    begin: async (
      input: { returnTo?: string; local?: boolean },
      keepAlive: (work: Promise<unknown>) => void,
    ): Promise<LogoutStart> => {
      const returnTo = safeReturnTo(input.returnTo, root, Object.values(authUrls))
      const ended = await session.end('logout')
      if (ended?.refreshToken !== undefined) keepAlive(server.revoke(ended.refreshToken))
      const back = input.returnTo === undefined && input.local ? {} : { url: returnTo }
      if (input.local || !(await canEndAtServer())) return { ...back, atServer: false }
      const ticket = await transactions.begin({ kind: 'logout', returnTo })
      hint = { ticket, idToken: ended?.idToken }
      return { url: `${authUrls.logout}?ticket=${ticket}`, atServer: true }
    },

    /** `logout.html`: out with a ticket, back with the `state` it was traded for. */
    visit: async (url: URL): Promise<Response> => {
      const ticket = ticketOf(url)
      const idToken = hint?.ticket === ticket ? hint?.idToken : undefined
      const departure = await transactions.depart(ticket, ['logout'])
      if (departure) {
        hint = undefined
        const away = await server.logoutUrl(departure.state, idToken).catch(() => undefined)
        return away === undefined ? redirectBack(departure.transaction.returnTo) : redirectTo(away)
      }
      const state = url.searchParams.get('state') ?? undefined
      const transaction = await transactions.arrive(state)
      if (!transaction || state === undefined) return redirectBack(root)
      if (transaction.kind === 'logout') await transactions.finish(state, transaction, 'logged-out')
      return redirectBack(transaction.returnTo)
    },

    /** Did the server send the browser back from this logout? */
    outcome: async (url: string): Promise<{ server: 'ended' | 'unknown' }> => {
      const ticket = URL.canParse(url) ? ticketOf(new URL(url)) : null
      const result = ticket === null ? undefined : await transactions.outcomeOf(ticket)
      return { server: result === 'logged-out' ? 'ended' : 'unknown' }
    },
  }
}

export type Logout = ReturnType<typeof createLogout>
