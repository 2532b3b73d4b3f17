import { describe, expect, test } from 'vitest'
import type { AuthPage } from '../../src/shared/protocol.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createUnitWorld, visitOf } from '../support/worker-parts.js'

// A server can bring back in a tab what has left in a hidden frame: its sign-in page breaks out.

const app = 'https://app.example/'
const here = `${app}here?x#y`
const done = `${app}tokenward/done.html#`

const windows = ['document', 'iframe', 'frame', 'embed', 'object'] as const
type Window = (typeof windows)[number]

const createWorld = () => {
  const world = createUnitWorld()
  const worker = world.createWorker()

  /** Visits an auth page; the answer is where the browser goes, or that it stays. */
  const visit = async (url: string | URL, destination: Window = 'document') => {
    const { pathname } = new URL(url)
    const page = /(\w+)\.html$/.exec(pathname)?.[1] as AuthPage
    const response = await worker.authPages(page, visitOf(url, { destination }))
    return response.headers.get('location') ?? (await response.text())
  }

  const page = (name: AuthPage, query = '') => `${app}tokenward/${name}.html${query}`
  return { ...world, ...worker, visit, page }
}

type World = ReturnType<typeof createWorld>
type Kind = 'login' | 'silent' | 'check' | 'logout'

const kinds: Kind[] = ['login', 'silent', 'check', 'logout']
const leavingFrom = { login: 'login', silent: 'silent', check: 'silent', logout: 'logout' } as const

/** Goes to the server, from a page that is signed in unless it looks for a session. */
const leave = async ({ signIn, transactions, visit, page }: World, kind: Kind) => {
  const record: ActiveRecord | undefined = kind === 'check' ? undefined : await signIn()
  const { session, generation } = record ?? {}
  const ticket = await transactions.begin({ kind, returnTo: here, session, generation })
  return new URL(await visit(page(leavingFrom[kind], `?ticket=${ticket}`)))
}

/** The way back, as a well-behaved server answers. */
const wayBack = ({ server, page }: World, kind: Kind, sent: URL): URL =>
  kind === 'logout'
    ? new URL(page('logout', `?state=${sent.searchParams.get('state')}`))
    : server.authorize(sent.href, 'alice')

const withError = (url: URL, code: string): URL => {
  url.searchParams.delete('code')
  url.searchParams.set('error', code)
  return url
}

/** Each answer, and where it leads a tab to. */
const answers: Record<
  string,
  { to: string; afterLogout?: string; change(url: URL, world: World): unknown }
> = {
  good: { to: here, change: () => {} },
  refused: { to: here, change: (url) => withError(url, 'access_denied') },
  'refused because the user has to act': {
    to: here,
    change: (url) => withError(url, 'login_required'),
  },
  malformed: { to: here, change: (url) => url.searchParams.append('error', 'x') },
  late: { to: `${app}#`, change: (_url, { browser }) => browser.pass(3_600_001) },
  'without a state': {
    to: `${app}#`,
    // Some servers send none back from a logout.
    afterLogout: here,
    change: (url) => url.searchParams.delete('state'),
  },
  'with a state of its own': { to: `${app}#`, change: (url) => url.searchParams.set('state', 'x') },
}

describe.each(kinds)('the answer to a %s', (kind) => {
  describe.each(Object.entries(answers))(
    'that is %s',
    (_title, { to, afterLogout = to, change }) => {
      const end = kind === 'logout' ? afterLogout : to
      test.each(windows)(
        'ends in a page of the app, or in a frame at the empty page: %s',
        async (window) => {
          const world = createWorld()
          const back = wayBack(world, kind, await leave(world, kind))
          await change(back, world)
          expect(await world.visit(back, window)).toBe(window === 'document' ? end : done)
        },
      )
    },
  )

  test.each(windows)('that is spent does, too: %s', async (window) => {
    const world = createWorld()
    const back = wayBack(world, kind, await leave(world, kind))
    await world.visit(back)
    expect(await world.visit(back, window)).toBe(window === 'document' ? here : done)
  })

  test.each(windows)('that comes to another of the pages does, too: %s', async (window) => {
    const world = createWorld()
    const back = wayBack(world, kind, await leave(world, kind))
    back.pathname = new URL(world.page(kind === 'logout' ? 'callback' : 'logout')).pathname
    const end = await world.visit(back, window)
    if (window === 'document') expect([here, `${app}#`]).toContain(end)
    else expect(end).toBe(done)
  })

  test.each(windows)('of a server that is not there does, too: %s', async (window) => {
    const world = createWorld()
    const { page, transactions, createWorker } = world
    const offline = createWorker({ fetch: () => Promise.reject(new TypeError('no network')) })
    const ticket = await transactions.begin({ kind, returnTo: here })
    const from = leavingFrom[kind]
    const visit = visitOf(page(from, `?ticket=${ticket}`), { destination: window })
    const response = await offline.authPages(from, visit)
    expect(response.headers.get('location')).toBe(window === 'document' ? here : done)
  })
})

describe.each(['login', 'silent', 'callback', 'logout'] as const)('a visit of %s.html', (page) => {
  test.each(windows)('that nothing has asked for ends like that: %s', async (window) => {
    const world = createWorld()
    for (const query of ['', '?ticket=x', '?state=x', '?code=x&state=y']) {
      const end = await world.visit(world.page(page, query), window)
      expect(end).toBe(window === 'document' ? `${app}#` : done)
    }
  })
})

test('a tab does not stay at the empty page at which frames end', async () => {
  const { visit, page } = createWorld()
  expect(await visit(page('done'))).toBe(`${app}#`)
  expect(await visit(page('done'), 'iframe')).toContain('<!doctype html>')
})

describe('a silent login that comes back in a tab', () => {
  test('has signed in, and tells the frame’s page and the tab so', async () => {
    const world = createWorld()
    const { transactions, session, visit, page, server, landing } = world
    const ticket = await transactions.begin({ kind: 'check', returnTo: here })
    const sent = await visit(page('silent', `?ticket=${ticket}`), 'iframe')
    expect(await visit(server.authorize(sent, 'alice'))).toBe(here)
    expect(await session.read()).toMatchObject({ status: 'active', subject: 'alice' })
    expect(await transactions.outcomeOf(ticket)).toBe('signed-in')
    expect(await landing.newsFor('page-1')).toEqual({ landed: true })
  })

  test('without success tells both why', async () => {
    const world = createWorld()
    const { transactions, visit, page, server, landing } = world
    const ticket = await transactions.begin({ kind: 'check', returnTo: here })
    const sent = await visit(page('silent', `?ticket=${ticket}`), 'iframe')
    expect(await visit(withError(server.authorize(sent), 'consent_required'))).toBe(here)
    const error = { code: 'consent_required' }
    expect(await transactions.outcomeOf(ticket)).toMatchObject({ error })
    expect(await landing.newsFor('page-1')).toMatchObject({ landing: error })
  })
})

describe('an answer in a frame that nobody waits for', () => {
  test.each<[string, string, (world: World) => Promise<URL>]>([
    [
      'that nothing has asked for',
      'unsolicited_callback',
      async ({ page }) => new URL(page('callback', '?code=x&state=y')),
    ],
    [
      'to the sign-in of a tab',
      'access_denied',
      async (world) =>
        withError(wayBack(world, 'login', await leave(world, 'login')), 'access_denied'),
    ],
  ])('is told to the open pages, as it is to a tab: %s', async (_title, code, answer) => {
    const world = createWorld()
    await world.visit(await answer(world), 'iframe')
    expect(world.events).toMatchObject([{ type: 'problem', error: { code } }])
    const other = createWorld()
    await other.visit(await answer(other))
    expect(await other.landing.newsFor('page-1')).toMatchObject({ landing: { code } })
    expect(other.events).toEqual([])
  })

  test('is told to the one who waits for it, and not to all', async () => {
    const world = createWorld()
    const back = wayBack(world, 'silent', await leave(world, 'silent'))
    await world.visit(withError(back, 'consent_required'), 'iframe')
    await world.visit(back, 'iframe')
    expect(world.events).toEqual([])
  })
})
