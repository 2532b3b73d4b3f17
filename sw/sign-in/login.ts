import { TokenError, toErrorData } from '../../src/shared/errors.js'
import type { AuthPage } from '../../src/shared/protocol.js'
import type { Arrival } from '../http/arrival.js'
import type { Platform } from '../platform.js'
import { protocolParams } from '../server/authorization-request.js'
import type { AuthorizationServer } from '../server/authorization-server.js'
import { hintOf } from '../session/active-record.js'
import { activeOf, type DpopKey, type SessionRecord, type Transaction } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Note } from '../trace.js'
import { redirectTo } from './auth-response.js'
import { interrupted, isSilent, type Landing } from './landing.js'
import { safeReturnTo, type Transactions } from './transactions.js'

/** The way out to the authorization server; the way back is in callback.ts. */
export interface Login {
  /** Begins a sign-in for a page; the answer is the URL to navigate to. */
  begin(input: { returnTo: string; params?: Record<string, string> }): Promise<{ url: string }>
  /** `login.html` and `silent.html`: a ticket is traded for the way to the server. */
  leave(arrival: Arrival, page: 'login' | 'silent'): Promise<Response>
}

/**
 * Parameters with which a page could widen what was configured. `login_hint` is allowed: it is
 * about one user, so a worker script cannot have it, and the server decides what it is worth.
 */
const notFromPages: ReadonlySet<string> = new Set([...protocolParams, 'audience'])

const checkParams = (params: Record<string, string> = {}): Record<string, string> => {
  // Some servers ignore case in names, others read `a.b` and `a[b` as `a_b`.
  // And some ask for scopes under other names (`include_granted_scopes`, `user_scope`).
  const isRefused = (name: string) =>
    notFromPages.has(name.toLowerCase()) || !/^[\w-]+$/.test(name) || /scope/i.test(name)
  const refused = Object.keys(params).find(isRefused)
  if (refused === undefined) return params
  throw new TokenError(
    'invalid_input',
    `login({ params }) must not contain ${refused}: only the worker script sets it.`,
  )
}

/** The hint helps a server that knows several users to answer for the right one. */
const silentParams = (
  record: SessionRecord | undefined,
  { hintless }: Transaction,
): Record<string, string> => {
  const hint = hintless ? undefined : hintOf(activeOf(record))
  return hint ? { prompt: 'none', id_token_hint: hint } : { prompt: 'none' }
}

/** Creates the way out: `login.html` for tabs, `silent.html` for hidden frames. */
export function createLogin({
  config: { authUrls, root },
  server,
  transactions,
  session,
  landing,
  platform: { online },
  note,
  dpop,
}: {
  config: { authUrls: Readonly<Record<AuthPage, string>>; root: string }
  server: Pick<AuthorizationServer, 'authorizationUrl' | 'newSecrets'>
  transactions: Pick<Transactions, 'begin' | 'depart' | 'arrive' | 'finish'>
  session: Pick<WorkerSession, 'read' | 'readAgain'>
  landing: Pick<Landing, 'end' | 'fail'>
  platform: Pick<Platform, 'online'>
  note?: Note
  dpop?: { keyFor(record: SessionRecord | undefined): Promise<DpopKey> }
}): Login {
  return {
    begin: async (input) => {
      const returnTo = safeReturnTo(input.returnTo, { root, authUrls })
      const params = checkParams(input.params)
      if (!online()) throw new TokenError('offline', 'Signing in needs the network.')
      const generation = (await session.readAgain())?.generation ?? 0
      const ticket = await transactions.begin({ kind: 'login', returnTo, params, generation })
      return { url: `${authUrls.login}?ticket=${ticket}` }
    },

    leave: async (arrival, page) => {
      const key = dpop?.keyFor(page === 'silent' ? await session.read() : undefined)
      const secrets = { ...server.newSecrets(), dpopKey: await key }
      const kinds = page === 'login' ? (['login'] as const) : (['silent', 'check'] as const)
      const ticket = arrival.url.searchParams.get('ticket')
      const departure = await transactions.depart(ticket, kinds, secrets)
      if (!departure) return landing.end(arrival)
      const { state, transaction } = departure
      const silent = isSilent(transaction)
      if (!silent) note?.('login')
      try {
        const params = {
          // Checked once more, since pages can write to the database too.
          ...checkParams(transaction.params),
          ...(silent && silentParams(await session.read(), transaction)),
        }
        return redirectTo(await server.authorizationUrl({ state, secrets, params }))
      } catch (cause) {
        const error = interrupted(cause)
        await transactions.arrive(state)
        await transactions.finish(state, transaction, { error: toErrorData(error) })
        const { returnTo } = transaction
        return await landing.fail(arrival, { returnTo, error, isKnown: silent })
      }
    },
  }
}
