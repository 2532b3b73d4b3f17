import { describe, expect, test } from 'vitest'
import { isTokenError } from '../../src/shared/errors.js'
import { safeReturnTo } from '../../sw/sign-in/transactions.js'
import { randomId } from '../../sw/values/random-id.js'
import { createUnitWorld, readDatabase } from '../support/worker-parts.js'

const root = 'https://app.example/app/'
const authUrls = Object.fromEntries(
  ['login', 'silent', 'callback', 'done', 'logout'].map((page) => [
    page,
    `${root}tokenward/${page}.html`,
  ]),
)

const login = { kind: 'login', returnTo: `${root}here` } as const
const secrets = { nonce: 'the-nonce', verifier: 'the-verifier', redirectUri: `${root}callback` }

const createWorld = () => {
  const { browser, createWorker } = createUnitWorld()
  const { store, transactions } = createWorker()
  return { browser, store, transactions, createWorker }
}

describe('a ticket', () => {
  test('is traded for the transaction and a state', async () => {
    const { browser, transactions } = createWorld()
    const ticket = await transactions.begin({ ...login, params: { prompt: 'login' } })
    const departure = await transactions.depart(ticket, ['login'], secrets)
    expect(departure?.transaction).toMatchObject({
      ...login,
      params: { prompt: 'login' },
      createdAt: browser.now(),
      sent: secrets,
    })
    expect(departure?.state).not.toBe(ticket)
  })

  test('works once (AR-08)', async () => {
    const { transactions } = createWorld()
    const ticket = await transactions.begin(login)
    expect(await transactions.depart(ticket, ['login'])).toBeDefined()
    expect(await transactions.depart(ticket, ['login'])).toBeUndefined()
  })

  test('works once for two workers that come at the same time (AR-08)', async () => {
    const { transactions, createWorker } = createWorld()
    const ticket = await transactions.begin(login)
    const second = createWorker().transactions
    const departures = await Promise.all([
      transactions.depart(ticket, ['login']),
      second.depart(ticket, ['login']),
    ])
    expect(departures.filter(Boolean)).toHaveLength(1)
  })

  test('works for a minute (AR-08)', async () => {
    const { browser, transactions } = createWorld()
    const [first, second] = [await transactions.begin(login), await transactions.begin(login)]
    await browser.pass(60_000)
    expect(await transactions.depart(first, ['login'])).toBeDefined()
    await browser.pass(1)
    expect(await transactions.depart(second, ['login'])).toBeUndefined()
  })

  test('is spent by a visit of the wrong page', async () => {
    const { transactions } = createWorld()
    const ticket = await transactions.begin(login)
    expect(await transactions.depart(ticket, ['silent', 'check'])).toBeUndefined()
    expect(await transactions.depart(ticket, ['login'])).toBeUndefined()
  })

  test.each([null, '', 'made-up', 'page page-1'])('that is %j leads nowhere', async (ticket) => {
    const { transactions } = createWorld()
    await transactions.begin(login)
    expect(await transactions.depart(ticket, ['login'])).toBeUndefined()
  })

  test('of a state leads nowhere: the way out is not the way back', async () => {
    const { transactions } = createWorld()
    const departure = await transactions.depart(await transactions.begin(login), ['login'])
    expect(await transactions.depart(departure!.state, ['login'])).toBeUndefined()
  })
})

describe('a state', () => {
  test('takes the transaction once; who comes second gets the outcome (CB-06)', async () => {
    const { transactions } = createWorld()
    const departure = await transactions.depart(await transactions.begin(login), ['login'], secrets)
    const { state, transaction } = departure!
    expect(await transactions.arrive(state)).toMatchObject({ ...login, sent: secrets })
    expect(await transactions.arrive(state)).toMatchObject({
      kind: 'outcome',
      result: 'exchanging',
      returnTo: login.returnTo,
    })
    await transactions.finish(state, transaction, 'signed-in')
    expect(await transactions.arrive(state)).toMatchObject({ result: 'signed-in' })
  })

  test('takes the transaction for one of two workers (CB-06)', async () => {
    const { transactions, createWorker } = createWorld()
    const departure = await transactions.depart(await transactions.begin(login), ['login'])
    const arrivals = await Promise.all(
      [transactions, createWorker().transactions].map((each) => each.arrive(departure!.state)),
    )
    expect(arrivals.map((each) => each?.kind).sort()).toEqual(['login', 'outcome'])
  })

  test.each([undefined, '', 'made-up'])('that is %j takes nothing (CB-07)', async (state) => {
    const { transactions } = createWorld()
    await transactions.depart(await transactions.begin(login), ['login'])
    expect(await transactions.arrive(state)).toBeUndefined()
  })

  test('that is a ticket takes nothing', async () => {
    const { transactions } = createWorld()
    const ticket = await transactions.begin(login)
    // It would take the sign-in before it has left; what it finds has no secrets to redeem with.
    expect((await transactions.arrive(ticket)) ?? {}).not.toHaveProperty('sent')
  })

  test('is good for an hour (AR-12)', async () => {
    const { browser, transactions } = createWorld()
    const departure = await transactions.depart(await transactions.begin(login), ['login'])
    await browser.pass(3_600_001)
    expect(await transactions.arrive(departure!.state)).toBeUndefined()
  })
})

describe('the outcome', () => {
  test('is there for the one who holds the ticket', async () => {
    const { transactions } = createWorld()
    const ticket = await transactions.begin(login)
    expect(await transactions.outcomeOf(ticket)).toBeUndefined()
    const departure = await transactions.depart(ticket, ['login'])
    const { state, transaction } = departure!
    expect(await transactions.outcomeOf(ticket)).toBeUndefined()
    await transactions.arrive(state)
    const error = { code: 'login_required', message: 'Sign in.' } as const
    await transactions.finish(state, transaction, { error })
    expect(await transactions.outcomeOf(ticket)).toEqual({ error })
  })

  test('of a failed visit is told to the page that landed, and once (CB-07)', async () => {
    const { transactions } = createWorld()
    const error = { code: 'access_denied', message: 'No.' } as const
    await transactions.leaveForPage('page-1', root, { error })
    expect(await transactions.takeForPage('page-2')).toBeUndefined()
    expect(await transactions.takeForPage('page-1')).toEqual({ error })
    expect(await transactions.takeForPage('page-1')).toBeUndefined()
  })
})

describe('the database', () => {
  test('holds neither a ticket nor a state: its keys are hashes (AR-04)', async () => {
    const { store, transactions } = createWorld()
    const used: string[] = []
    for (let round = 0; round < 3; round++) {
      const ticket = await transactions.begin(login)
      used.push(ticket)
      if (round === 0) continue
      const { state, transaction } = (await transactions.depart(ticket, ['login'], secrets))!
      used.push(state)
      if (round === 1) continue
      await transactions.arrive(state)
      await transactions.finish(state, transaction, 'signed-in')
    }
    const { transactions: entries } = await readDatabase(store.name)
    expect(entries).toHaveLength(4)
    const text = JSON.stringify(entries)
    for (const secret of used) expect(text).not.toContain(secret)
    for (const [key] of entries!) expect(key).toMatch(/^[\w+/]{43}=$/)
  })

  test('holds the secrets of a sign-in no longer than it is under way (AR-12)', async () => {
    const { store, transactions } = createWorld()
    const departure = await transactions.depart(await transactions.begin(login), ['login'], secrets)
    expect(JSON.stringify(await readDatabase(store.name))).toContain('the-verifier')
    await transactions.arrive(departure!.state)
    const text = JSON.stringify(await readDatabase(store.name))
    expect(text).not.toContain('the-verifier')
    expect(text).not.toContain('the-nonce')
  })
})

describe('returnTo (AR-10)', () => {
  const safe = (value: string | undefined) => safeReturnTo(value, { root, authUrls })

  test.each([
    [undefined, root],
    ['', root],
    ['#', `${root}#`],
    ['orders?x=1#y', `${root}orders?x=1#y`],
    ['/elsewhere', 'https://app.example/elsewhere'],
    ['../', 'https://app.example/'],
    ['https://app.example', 'https://app.example/'],
    ['https://app.example/a#/hash/router', 'https://app.example/a#/hash/router'],
    ['https://APP.example:443/A', 'https://app.example/A'],
    ['?next=https://evil.example', `${root}?next=https://evil.example`],
    ['tokenward/', `${root}tokenward/`],
    ['tokenward/callback.html.txt', `${root}tokenward/callback.html.txt`],
    ['caf%E9/%zz?x=%ff', `${root}caf%E9/%zz?x=%ff`],
    ['/Orders//1/', 'https://app.example/Orders//1/'],
    // Outside of the scope, the file of another app.
    ['/tokenward/callback.html', 'https://app.example/tokenward/callback.html'],
  ])('%j leads to %s', (value, url) => {
    expect(safe(value)).toBe(url)
  })

  test.each([
    'https://evil.example',
    'https://evil.example/app/',
    'https://app.example.evil.net/',
    'https://evil.example#https://app.example/',
    'https://evil.example?https://app.example/',
    'https://evil.example\\@app.example/',
    'https://app.example@evil.example/',
    'https://me@app.example/',
    'https://me:x@app.example/',
    'https://:x@app.example/',
    'https://app.example.:443/',
    'https://app.example:444/',
    'http://app.example/app/',
    'https://xn--pp-7ka.example/',
    'https://аpp.example/',
    '//evil.example',
    '//evil.example/app/',
    '///evil.example',
    '////evil.example',
    '/\\evil.example',
    '\\/evil.example',
    '\\\\evil.example',
    '\t//evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '\r\n//evil.example',
    ' //evil.example',
    '\u0000//evil.example',
    'https:\\\\evil.example',
    'https:/\\evil.example',
    'javascript:alert(1)',
    'JavaScript:alert(1)',
    ' javascript:alert(1)',
    'java\nscript:alert(1)',
    'javascript://app.example/%0aalert(1)',
    'data:text/html,<script>alert(1)</script>',
    'blob:https://app.example/0f3a',
    'filesystem:https://app.example/temporary/x',
    'vbscript:msgbox(1)',
    'file:///etc/passwd',
    'ftp://app.example/',
    'ws://app.example/',
    'view-source:https://app.example/',
    'about:blank',
    'intent://app.example/',
    'https://',
    'https://[',
    'https://app.example:99999/',
    ...['login', 'silent', 'callback', 'done', 'logout'].map((page) => `tokenward/${page}.html`),
    'tokenward/callback.html?code=x&state=y',
    'tokenward/callback.html#x',
    'x/../tokenward/login.html',
    './tokenward/%2e/logout.html',
    'https://APP.EXAMPLE:443/app/tokenward/done.html',
    '\\app\\tokenward\\done.html',
    // What a server may take for one: it is the inert page there, and no way back to the app.
    'tokenward/%63allback.html',
    'tokenward/callback%2Ehtml',
    'tokenward%2fcallback.html',
    'tokenward%5Ccallback.html',
    'tokenward//callback.html',
    '//app.example/app//tokenward/callback.html',
    'tokenward/callback.html/',
    'tokenward/callback.html//?code=x',
    'tokenward/CallBack.html',
    'TOKENWARD/LOGIN.HTML?ticket=x',
    'Tokenward/%4cogin.%48tml#x',
    '/APP/tokenward/logout.html',
    '/%61pp/tokenward/silent.html',
  ])('%j is refused', (value) => {
    try {
      expect(safe(value)).toBe('refused')
    } catch (error) {
      expect(isTokenError(error) && error.code).toBe('invalid_input')
      expect((error as Error).message).not.toContain(value)
    }
  })
})

test('1 000 values for tickets and states are all different, and of 256 bits (AR-02, AR-04)', () => {
  const values = new Set(Array.from({ length: 1000 }, randomId))
  expect(values.size).toBe(1000)
  for (const value of values) expect(value).toMatch(/^[\w-]{43}$/)
})
