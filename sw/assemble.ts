import type { TokenError } from '../src/shared/errors.js'
import type { WireEvent } from '../src/shared/protocol.js'
import type { ConnectedWorker } from './offline/api-part.js'
import { type ApiParts, createApiParts } from './offline/api-parts.js'
import type { Config } from './options/parse-options.js'
import type { PageBridge } from './page-bridge.js'
import { createPageCalls, type PageCallsFor } from './page-calls.js'
import type { Platform } from './platform.js'
import { type ApiRequest, createApiRequest } from './request/api-request.js'
import { type Cancellation, createCancellation } from './request/cancellation.js'
import { createConnectedWorker } from './request/connected-worker.js'
import { createIntercept, type Intercept } from './request/intercept.js'
import { createProtocolEndpoints, type ProtocolEndpoints } from './request/protocol-endpoints.js'
import { createWithheld } from './request/withheld.js'
import {
  type AuthorizationServer,
  createAuthorizationServer,
} from './server/authorization-server.js'
import { createSession, type WorkerSession } from './session/session.js'
import { createStore, type Store } from './session/store.js'
import { type AuthPages, createAuthPages } from './sign-in/auth-pages.js'
import { type Callback, createCallback } from './sign-in/callback.js'
import { createLanding, type Landing } from './sign-in/landing.js'
import { createLogin, type Login } from './sign-in/login.js'
import { createLogout, type Logout } from './sign-in/logout.js'
import { createTransactions, type Transactions } from './sign-in/transactions.js'
import { type AccessToken, createAccessToken } from './token/access-token.js'
import { createRefresh, type Refresh } from './token/refresh.js'
import { createRenewal, type Renewal } from './token/renewal.js'
import { createSilentLogin, type SilentLogin } from './token/silent-login.js'
import type { Note } from './trace.js'

/** The parts of a token worker, from the request down to the disk. */
export interface Parts {
  config: Config
  intercept: Intercept
  endpoints: ProtocolEndpoints
  cancellation: Cancellation
  apiRequest: ApiRequest
  /** For code that sends requests by itself. */
  connected: ConnectedWorker
  apiParts: ApiParts
  pageCalls: PageCallsFor
  accessToken: AccessToken
  renewal: Renewal
  refresh: Refresh
  silentLogin: SilentLogin
  login: Login
  authPages: AuthPages
  callback: Callback
  logout: Logout
  landing: Landing
  transactions: Transactions
  server: AuthorizationServer
  session: WorkerSession
  store: Store
}

/**
 * Puts the parts together, from the disk up to the request.
 *
 * @param changes What tests and the simulation put in the place of a part
 */
export function assemble({
  config,
  platform,
  bridge,
  changes = {},
}: {
  config: Config
  platform: Platform
  bridge: Pick<PageBridge, 'call' | 'publish'>
  changes?: { store?: (store: Store) => Store; silentLogin?: SilentLogin }
}): Parts {
  const { trace } = config
  const note: Note | undefined =
    trace && ((step, more) => trace({ at: platform.now(), step, ...more }))
  const reportProblem = (error: TokenError) => session.reportProblem(error)
  const apiParts = createApiParts({ config, platform })
  const publish = (event: WireEvent) => {
    // In the background: what was put off needs the token that this is about.
    if (event.type === 'renewed' || event.type === 'signed-in') void apiParts.resume()
    return bridge.publish(event)
  }

  const events = {
    lost: () => session.lost(),
    damaged: (error: TokenError) => void reportProblem(error).catch(() => {}),
    orphaned: (refreshToken: string) => void server.revoke(refreshToken).catch(() => {}),
  }
  const madeStore = createStore({ config, platform, events })
  const store = changes.store?.(madeStore) ?? madeStore
  const dpop = config.dpop?.({ store, platform, reportProblem })
  const disk = { config, platform, note, reportProblem, store, dpop, apiParts }
  const session = createSession({ ...disk, publish, forget: apiParts.forget })
  const server = createAuthorizationServer(disk)

  const transactions = createTransactions(disk)
  const known = { ...disk, session, server, transactions }
  const landing = createLanding(known)
  const login = createLogin({ ...known, landing })
  const callback = createCallback({ ...known, landing })
  const logout = createLogout({ ...known, landing })
  const authPages = createAuthPages({ login, callback, logout, landing })

  const silentLogin = changes.silentLogin ?? createSilentLogin({ ...known, callPage: bridge.call })
  const refresh = createRefresh(known)
  const renewal = createRenewal({ ...known, refresh, silentLogin })
  const accessToken = createAccessToken({ ...known, renewal })

  const endpoints = createProtocolEndpoints(known)
  const intercept = createIntercept({ config, endpoints, withheld: createWithheld(known) })
  const cancellation = createCancellation()
  const apiRequest = createApiRequest({
    ...{ ...known, accessToken, renewal, endpoints, publish: bridge.publish },
  })
  const requests = { ...known, intercept, endpoints, cancellation, apiRequest }
  const connected = createConnectedWorker(requests)
  const tokens = { accessToken, renewal, refresh, silentLogin }
  const signIn = { login, authPages, callback, logout, landing }
  const pageCalls = createPageCalls({ ...known, ...signIn, ...tokens })
  apiParts.connect(connected)

  return { ...requests, ...signIn, ...tokens, connected, pageCalls }
}
