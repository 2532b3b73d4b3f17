import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import {
  eventsIn,
  fetchIn,
  openApp,
  openSignedIn,
  recordIn,
  sessionIn,
  stopWorkers,
  useWorld,
} from '../support/world.js'

// What a script of the page can send to the worker that runs, and what others can send to a page.

const world = useWorld({
  // How many of the ports that came with messages are still open, and what a gadget would leave.
  beforeWorker: `
    let ports = 0
    addEventListener('message', (event) => { ports += event.ports.length })
    const closePort = MessagePort.prototype.close
    const closed = new WeakSet()
    MessagePort.prototype.close = function () {
      if (!closed.has(this)) ports--
      closed.add(this)
      return closePort.call(this)
    }
    const prototypes = () =>
      [Object, Function, Array, Promise].map(({ prototype }) => Reflect.ownKeys(prototype).length)
    const before = String([prototypes(), Reflect.ownKeys(self).length])
    addEventListener('message', ({ data, ports: [port] }) => {
      if (data !== 'look') return
      ports--
      const changed = before !== String([prototypes(), Reflect.ownKeys(self).length])
      port.postMessage({ ports, changed, pwned: self.pwned })
    })`,
})

const look = (page: Page): Promise<{ ports: number; changed: boolean; pwned?: unknown }> =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = ({ data }) => resolve(data)
        navigator.serviceWorker.controller?.postMessage('look', [port2])
      }),
  )

/**
 * Sends raw frames, each on a port of its own and followed by a call that is answered; gives the
 * answers to the frames.
 */
const replay = (page: Page, frames: object[]): Promise<unknown[]> =>
  page.evaluate(
    (frames) =>
      Promise.all(
        frames.map(
          (frame) =>
            new Promise((resolve) => {
              const { port1, port2 } = new MessageChannel()
              port1.onmessage = ({ data }) => resolve(data.id === 'end' ? 'dropped' : data)
              navigator.serviceWorker.controller?.postMessage({ tokenward: 1 }, [port2])
              port1.postMessage(frame)
              port1.postMessage({ id: 'end', type: 'APPLY', path: ['session'], argumentList: [] })
            }),
        ),
      ),
    frames,
  )

/** What a page can see of the session and its effects. */
const stateOf = async (page: Page) => ({
  session: await sessionIn(page),
  events: await eventsIn(page),
  record: await recordIn(world, page),
  asked: world.as.requests.length,
})

describe('raw Comlink frames to the running worker', () => {
  const raw = (value: unknown) => ({ type: 'RAW', value })
  const code = [raw('self.pwned = 1; return Object.keys(self)')]
  const methods = ['hello', 'session', 'login', 'renew', 'logout']
  const frames = [
    // new (proxy.method.constructor)('return secret')
    ...methods.flatMap((name) => [
      { type: 'CONSTRUCT', path: [name, 'constructor'], argumentList: code },
      { type: 'APPLY', path: [name, 'constructor'], argumentList: code },
      { type: 'APPLY', path: [name, 'constructor', 'constructor'], argumentList: code },
      { type: 'GET', path: [name] },
      { type: 'GET', path: [name, 'constructor'] },
      { type: 'SET', path: [name], value: raw(1) },
      { type: 'SET', path: [name, '__proto__', 'x'], value: raw(1) },
      { type: 'ENDPOINT', path: [name] },
      { type: 'APPLY', path: [name, 'call'], argumentList: [raw({})] },
    ]),
    ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'].flatMap((name) => [
      { type: 'SET', path: [name, 'polluted'], value: raw(1) },
      { type: 'GET', path: [name] },
      { type: 'APPLY', path: [name], argumentList: code },
      { type: 'CONSTRUCT', path: [name, 'constructor'], argumentList: code },
    ]),
    { type: 'GET', path: [] },
    { type: 'RELEASE', path: [] },
    { type: 'APPLY', path: Array(5_000).fill('session'), argumentList: [] },
    { type: 'APPLY', path: ['login'], argumentList: [raw({ returnTo: 'x'.repeat(1_000_000) })] },
    {
      type: 'APPLY',
      path: ['renew'],
      argumentList: [{ type: 'HANDLER', name: 'throw', value: 1 }],
    },
  ].map((frame, index) => ({ id: `frame ${index}`, ...frame }))

  test('run nothing, read nothing, change nothing (BR-01, BR-02)', async () => {
    const page = await openSignedIn(world)
    const before = await stateOf(page)
    expect(await replay(page, frames)).toEqual(frames.map(() => 'dropped'))
    expect(await look(page)).toMatchObject({ changed: false, pwned: undefined })
    expect(await stateOf(page)).toEqual(before)
    // The probe would have been noticed: such a call is answered.
    const [answer] = await replay(page, [
      { id: 'x', type: 'APPLY', path: ['session'], argumentList: [raw({})] },
    ])
    expect(answer).toMatchObject({ id: 'x', value: { ok: true } })
  })
})

describe('a flood', () => {
  test('from one page leaves the others their answers and their tokens (BR-05)', async () => {
    const page = await openSignedIn(world)
    const other = await openApp(page.context(), world.url)
    await page.evaluate(() => {
      const flood = Array.from({ length: 3_000 }, () => new MessageChannel())
      // Kept, so that they are not collected.
      Object.assign(window, { flood })
      for (const { port1, port2 } of flood) {
        navigator.serviceWorker.controller?.postMessage({ tokenward: 1 }, [port2])
        port1.postMessage({ id: '1', type: 'GET', path: [] })
        port1.postMessage('x'.repeat(1_000))
      }
    })
    expect(await sessionIn(other)).toMatchObject({ claims: { sub: 'alice' } })
    expect(await fetchIn(other, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    const { ports } = await look(other)
    expect(ports).toBeGreaterThan(200)
    expect(ports).toBeLessThanOrEqual(257)
  })

  test('of forged announcements signs nobody in or out, and asks the server nothing (BR-07)', async () => {
    const page = await openSignedIn(world)
    const forging = await openApp(page.context(), `${world.url}other`)
    const before = await stateOf(page)
    await page.evaluate((name) => {
      const worker = navigator.serviceWorker.controller as ServiceWorker
      const post = worker.postMessage
      const listener = new BroadcastChannel(name)
      Object.assign(window, { questions: 0, heardLast: false, listener })
      listener.onmessage = ({ data }) => {
        if (data === 'last') Object.assign(window, { heardLast: true })
      }
      worker.postMessage = function (...args: unknown[]) {
        ;(window as unknown as { questions: number }).questions++
        return Reflect.apply(post, this, args)
      }
    }, world.databaseName)
    await forging.evaluate(async (name) => {
      const channel = new BroadcastChannel(name)
      Object.assign(window, { channel })
      const record = { status: 'ended', reason: 'logout', accessToken: 'forged', generation: 9e9 }
      const values = [
        null,
        '',
        9,
        [],
        record,
        { record },
        new Map([['scope', 'x']]),
        new Error('x'),
        { scope: {} },
        { scope: 'https://app.example/', generation: 9e9 },
        { tokenward: 1, event: { type: 'signed-out', reason: 'logout' } },
        { tokenward: 1, event: { type: 'signed-in', session: { claims: { sub: 'mallory' } } } },
      ]
      for (let count = 0; count < 200; count++)
        for (const value of values) channel.postMessage(value)
      // The library keeps nothing there; some apps sign out by such an event.
      for (const key of ['session', name, 'tokenward']) {
        localStorage.setItem(key, JSON.stringify(record))
        localStorage.removeItem(key)
        dispatchEvent(new StorageEvent('storage', { key, newValue: JSON.stringify(record) }))
      }
    }, world.databaseName)
    // What one channel says is heard in order: this is the last.
    await forging.evaluate(() => {
      ;(window as unknown as { channel: BroadcastChannel }).channel.postMessage('last')
    })
    await page.waitForFunction('heardLast')
    expect(await fetchIn(page, `${world.api.url}/me`)).toMatchObject({ status: 200 })
    expect(await stateOf(page)).toEqual(before)
    expect(await eventsIn(forging)).toEqual([])
    expect(Number(await page.evaluate('questions'))).toBeLessThan(1_200)
  })
})

describe('ports', () => {
  test(
    'are closed after 100 reloads and calls that nobody waited for (BR-05)',
    async () => {
      const page = await openSignedIn(world)
      for (let count = 0; count < 100; count++) {
        await page.evaluate(() => {
          window.auth.session().catch(() => {})
          window.auth.session().catch(() => {})
        })
        await page.reload({ waitUntil: 'domcontentloaded' })
      }
      await page.evaluate(() => window.auth.ready)
      await sessionIn(page)
      // A page that went in the very moment leaves one for a minute.
      expect((await look(page)).ports).toBeLessThan(10)
    },
    limit(180_000),
  )

  test('to a worker that is stopped do not keep a call waiting (BR-05)', async () => {
    const page = await openSignedIn(world)
    await stopWorkers(page)
    const sessions = Promise.all(Array.from({ length: 20 }, () => sessionIn(page)))
    await stopWorkers(page)
    for (const session of await sessions)
      expect(session).toMatchObject({ claims: { sub: 'alice' } })
  })
})

describe('somebody else', () => {
  test('a dedicated worker gets no answer from the worker (BR-03)', async () => {
    world.usePolicy({ page: { 'worker-src': "'self'", 'require-trusted-types-for': undefined } })
    const page = await openSignedIn(world)
    // Chromium has no `navigator.serviceWorker` there; a page's port to the worker is another thing.
    world.site.addFile('/asking.js', {
      body: `onmessage = async () => {
        const registration = await navigator.serviceWorker?.getRegistration('/')
        if (!registration) return postMessage('cannot ask')
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = () => postMessage('answered')
        registration.active.postMessage({ tokenward: 1 }, [port2])
        port1.postMessage({ id: '1', type: 'APPLY', path: ['session'], argumentList: [] })
        setTimeout(() => postMessage('no answer'), 2000)
      }`,
    })
    const said = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const worker = new Worker('/asking.js')
          worker.onmessage = ({ data }) => resolve(data)
          worker.postMessage('')
        }),
    )
    expect(['cannot ask', 'no answer']).toContain(said)
  })

  test('a frame, an opener or the page itself that talks like the worker is not heard (BR-03)', async () => {
    // The frame brings a script of its own.
    world.site.setHeaders()
    const page = await openSignedIn(world)
    const before = await stateOf(page)
    const frames = await page.evaluate(async () => {
      const event = { type: 'signed-out', reason: 'logout' }
      const forged = { tokenward: 1, event }
      const call = { tokenward: 1, call: true }
      const frame = document.createElement('iframe')
      frame.sandbox.add('allow-scripts')
      frame.srcdoc = `<script>
        const { port1, port2 } = new MessageChannel()
        parent.postMessage(${JSON.stringify(forged)}, '*')
        parent.postMessage(${JSON.stringify(call)}, '*', [port2])
        port1.postMessage({
          id: '1', type: 'APPLY', path: ['openFrame'],
          argumentList: [{ type: 'RAW', value: { url: '/forged', doneUrl: '/', limit: 1e6 } }]
        })
        parent.postMessage('sent', '*')
      </script>`
      const sent = new Promise<void>((resolve) => {
        addEventListener('message', ({ data }) => data === 'sent' && resolve())
      })
      document.body.append(frame)
      await sent
      for (const source of [null, window, frame.contentWindow, new MessageChannel().port1]) {
        const { port1, port2 } = new MessageChannel()
        const container = navigator.serviceWorker
        container.dispatchEvent(new MessageEvent('message', { data: forged, source }))
        container.dispatchEvent(new MessageEvent('message', { data: call, source, ports: [port2] }))
        port1.postMessage({
          ...{ id: '1', type: 'APPLY', path: ['openFrame'] },
          argumentList: [
            { type: 'RAW', value: { url: '/forged', doneUrl: '/', limit: 1_000_000 } },
          ],
        })
      }
      window.postMessage(forged, '*')
      await new Promise((resolve) => setTimeout(resolve, 100))
      return document.querySelectorAll('iframe').length
    })
    expect(frames).toBe(1)
    expect(await stateOf(page)).toEqual(before)
    expect(world.site.requests.some(({ path }) => path === '/forged')).toBe(false)
  })
})

describe('two versions', () => {
  test('a page of another one is told so by the worker, for every call (BR-09)', async () => {
    const library = await (await fetch(`${world.site.origin}/tokenward.js`)).text()
    // An old page: the same code, but for the number it says.
    const old = library.replace(/postMessage\(\{tokenward:1/g, 'postMessage({tokenward:0')
    expect(old).not.toBe(library)
    world.site.addFile('/old.js', { body: old })
    const call = "tokenward.createTokenManager('/sw.js')"
    const body = world.pageFor(call).replace('/tokenward.js', '/old.js')
    world.site.addFile('/old', { body, type: 'text/html' })
    const page = await openSignedIn(world)
    await page.goto(`${world.site.origin}/old`)
    const codes = await page.evaluate(() => {
      const { ready, session, renew, login, logout, checkSession } = window.auth
      const all = [ready, session(), renew(), login(), logout(), checkSession()]
      return Promise.all(
        all.map((each: Promise<unknown>) =>
          each.then(
            () => 'done',
            ({ code }) => code,
          ),
        ),
      )
    })
    expect(codes).toEqual(Array(6).fill('bridge_version'))
    // And nothing has happened.
    await page.goto(world.url)
    await page.evaluate(() => window.auth.ready)
    expect(await sessionIn(page)).toMatchObject({ state: 'fresh' })
  })

  test('a page that is newer than the worker is told so too (BR-09)', async () => {
    const worker = await (await fetch(`${world.site.origin}/tokenward-worker.js`)).text()
    const old = worker.replace(/(\.tokenward===)1\b/, '$10')
    expect(old).not.toBe(worker)
    world.site.addFile('/old-worker.js', { body: old })
    const source = world.workerSource().replace('/tokenward-worker.js', '/old-worker.js')
    world.site.addFile('/sw.js', { body: source })
    const page = await (await world.newProfile()).newPage()
    await page.goto(world.url)
    const ready = page.evaluate(() => window.auth.ready.catch(({ code }) => code))
    expect(await ready).toBe('bridge_version')
  })
})
