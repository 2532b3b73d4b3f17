// The parts of a token worker on a fake platform, put together as token-worker.ts does it.
import 'fake-indexeddb/auto'
import type { WireEvent } from '../../src/shared/protocol.js'
import { parseOptions, type TokenWorkerOptions } from '../../sw/options/options.js'
import type { Platform } from '../../sw/platform.js'
import { createAuthorizationServer } from '../../sw/server/authorization-server.js'
import { createSession } from '../../sw/session/session.js'
import { type ActiveRecord, createStore, type Store } from '../../sw/session/store.js'
import { createTransactions } from '../../sw/sign-in/transactions.js'
import { createAccessToken } from '../../sw/token/access-token.js'
import { createRefresh } from '../../sw/token/refresh.js'
import type { SilentLogin } from '../../sw/token/silent-login.js'
import type { TraceStep } from '../../sw/trace.js'
import {
  createFakeAuthorizationServer,
  type FakeAuthorizationServer,
  type FakeServerOptions,
} from './fake-authorization-server.js'
import { createFakeBrowser, type FakeBrowser, type Fetch } from './fake-platform.js'

let clients = 0

/** Options that work, with a client and so a database of their own. */
export const workingOptions = (more: Partial<TokenWorkerOptions> = {}): TokenWorkerOptions => ({
  issuer: 'https://login.example',
  clientId: `client-${++clients}`,
  apis: ['https://api.example/'],
  ...more,
})

export const activeRecord = (now: number, more: Partial<ActiveRecord> = {}): ActiveRecord => ({
  status: 'active',
  generation: 0,
  session: 'session-1',
  since: now,
  claims: { sub: 'alice' },
  subject: 'alice',
  scope: 'openid',
  accessToken: 'access-token-0',
  accessTokenIssuedAt: now,
  accessTokenExpiresAt: now + 3_600_000,
  protocolEndpoints: [],
  ...more,
})

export interface WorldOptions {
  options?: Partial<TokenWorkerOptions>
  server?: FakeServerOptions
}

/** A browser and an authorization server, and as many workers as a test needs. */
export const createUnitWorld = ({ options, server: serverOptions }: WorldOptions = {}) => {
  const browser = createFakeBrowser()
  const server = createFakeAuthorizationServer({ now: browser.now, ...serverOptions })
  const config = parseOptions(workingOptions(options), 'https://app.example/')

  /** One worker's parts; a second call is a second worker, or the first one restarted. */
  const createWorker = ({
    fetch = server.fetch,
    silentLogin = async () => {
      throw new Error('no silent login expected')
    },
    lock,
    onStored,
  }: {
    fetch?: Fetch
    silentLogin?: SilentLogin
    lock?: Platform['lock']
    /** What happens after the session record has been written, before anybody knows. */
    onStored?: (after: ActiveRecord) => unknown
  } = {}) => {
    const platform = { ...browser.platform(fetch), ...(lock && { lock }) }
    const events: WireEvent[] = []
    const steps: TraceStep['step'][] = []
    const note = (step: TraceStep['step']) => void steps.push(step)
    const realStore = createStore(config, platform, {
      lost: () => session.lost(),
      damaged: (error) => void session.tellProblem(error),
      orphaned: (refreshToken) => void authorizationServer.revoke(refreshToken),
    })
    const store: Store = {
      ...realStore,
      update: async (next) => {
        const change = await realStore.update(next)
        if (change.after?.status === 'active') await onStored?.(change.after)
        return change
      },
    }
    const tellPages = async (event: WireEvent) => void events.push(event)
    const dpop = config.dpop?.(store, platform, (error) => session.tellProblem(error))
    const session = createSession(store, config.root, platform, tellPages, note, dpop)
    const authorizationServer = createAuthorizationServer(
      config,
      store,
      platform,
      session.tellProblem,
      dpop,
    )
    const transactions = createTransactions(
      store,
      platform.now,
      authorizationServer.randomValue,
      config.root,
    )
    const refresh = createRefresh(authorizationServer, session, platform, note)
    const accessToken = createAccessToken(
      { ...config, lockName: `${store.name} renew` },
      session,
      refresh,
      silentLogin,
      platform,
    )
    return {
      ...{ platform, events, steps, store, session, authorizationServer, transactions, refresh },
      accessToken,
    }
  }

  return {
    browser,
    server,
    config,
    createWorker,

    /** Puts a signed-in user into the database, with the refresh token that the server takes. */
    signIn: async (more: Partial<ActiveRecord> = {}): Promise<ActiveRecord> => {
      const { clientId } = config
      const { refresh_token: refreshToken } = server.issue(clientId, 'alice')
      const record = activeRecord(browser.now(), { refreshToken, ...more })
      server.setGrant({ clientId, subject: 'alice', refreshToken: record.refreshToken })
      const { after } = await createStore(config, browser.platform()).update(() => record)
      return after as ActiveRecord
    },
  }
}

export type UnitWorld = ReturnType<typeof createUnitWorld>
export type { FakeAuthorizationServer, FakeBrowser }

/** Everything that is in the database of a configuration. */
export const readDatabase = async (name: string): Promise<Record<string, [string, unknown][]>> => {
  const db = await new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name)
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
  const entries: Record<string, [string, unknown][]> = {}
  for (const storeName of db.objectStoreNames) {
    const store = db.transaction(storeName).objectStore(storeName)
    const all = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve) => {
        request.onsuccess = () => resolve(request.result)
      })
    const [keys, values] = await Promise.all([all(store.getAllKeys()), all(store.getAll())])
    entries[storeName] = keys.map((key, index) => [String(key), values[index]])
  }
  db.close()
  return entries
}
