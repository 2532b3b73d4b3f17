// The parts of a token worker on a fake platform.
import 'fake-indexeddb/auto'
import type { WireEvent } from '../../src/shared/protocol.js'
import { assemble, type Parts } from '../../sw/assemble.js'
import type { Arrival } from '../../sw/http/arrival.js'
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import { parseOptions } from '../../sw/options/parse-options.js'
import type { Platform } from '../../sw/platform.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createStore, type Store } from '../../sw/session/store.js'
import { createCallback } from '../../sw/sign-in/callback.js'
import { createLanding } from '../../sw/sign-in/landing.js'
import { createLogin } from '../../sw/sign-in/login.js'
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

/** A visit of an auth page, as it reaches the worker; by default in a tab. */
export const visitOf = (
  url: string | URL,
  request: Partial<Request> = {},
  pageId = 'page-1',
): Arrival => ({
  url: new URL(url),
  request: { method: 'GET', destination: 'document', ...request } as Request,
  pageId,
  clientId: '',
  keepAlive: () => {},
})

/** Signing in with these parts: out, back, and what the page that lands gets. */
export const createSignIn = ({
  config,
  server,
  transactions,
  session,
  platform,
}: Pick<Parts, 'config' | 'server' | 'transactions' | 'session'> & {
  platform: Pick<Platform, 'now' | 'online'>
}) => {
  const landing = createLanding({ config, transactions, session })
  const parts = { config, server, transactions, session, landing, platform }
  const { begin, leave } = createLogin(parts)
  return { begin, leave, arrive: createCallback(parts), landing: landing.newsFor }
}

/** The store, with a look at what it has written. */
const watched = (store: Store, onStored?: (after: ActiveRecord) => unknown): Store => ({
  ...store,
  update: async (next) => {
    const change = await store.update(next)
    if (change.after?.status === 'active') await onStored?.(change.after)
    return change
  },
})

/** A browser and an authorization server, and as many workers as a test needs. */
export const createUnitWorld = ({ options, server: serverOptions }: WorldOptions = {}) => {
  // What the workers of an earlier world have noted of the place that all of them have.
  indexedDB.deleteDatabase('tokenward')
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
    const bridge = {
      call: async () => {
        throw new Error('no call of a page expected')
      },
      publish: async (event: WireEvent) => void events.push(event),
    }
    const parts = assemble({
      config: { ...config, trace: ({ step }) => void steps.push(step) },
      platform,
      bridge,
      changes: { store: (store) => watched(store, onStored), silentLogin },
    })
    const { server: authorizationServer, ...others } = parts
    return { ...others, authorizationServer, platform, events, steps }
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
      const { after } = await createStore({ config, platform: browser.platform() }).update(
        () => record,
      )
      return after as ActiveRecord
    },
  }
}

export type UnitWorld = ReturnType<typeof createUnitWorld>
export type { FakeAuthorizationServer, FakeBrowser }

const openDatabase = (name: string) =>
  new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name)
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })

/** A script of a page that keeps a transaction open, by one request in it after the other. */
export const holdDatabase = async (name: string) => {
  const db = await openDatabase(name)
  const tx = db.transaction([...db.objectStoreNames], 'readwrite')
  let isHeld = true
  await new Promise<void>((resolve) => {
    const ask = () => {
      const request = tx.objectStore('session').get('current')
      request.onsuccess = () => {
        resolve()
        if (isHeld) ask()
      }
    }
    ask()
  })
  return {
    release: async () => {
      isHeld = false
      await new Promise((resolve) => {
        tx.oncomplete = resolve
      })
      db.close()
    },
  }
}

/** Everything that is in the database of a configuration. */
export const readDatabase = async (name: string): Promise<Record<string, [string, unknown][]>> => {
  const db = await openDatabase(name)
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
