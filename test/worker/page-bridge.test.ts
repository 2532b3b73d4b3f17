import { wrap } from 'comlink'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { TokenError } from '../../src/shared/errors.js'
import { PROTOCOL, type WorkerCalls } from '../../src/shared/protocol.js'
import { createPageBridge } from '../../sw/page-bridge.js'
import { createFakeBrowser, fakePage, settle } from '../support/fake-platform.js'

const names = [
  ...['hello', 'claim', 'session', 'login', 'checkSession', 'renew', 'logout', 'logoutOutcome'],
] as const

/** A bridge whose calls only write down that they ran. */
const createBridge = (more: Partial<WorkerCalls> = {}) => {
  const browser = createFakeBrowser()
  const ran: [name: string, ...input: unknown[]][] = []
  const methods = Object.fromEntries(
    names.map((name) => [
      name,
      async (...input: unknown[]) => {
        ran.push([name, ...input])
        return { ran: name }
      },
    ]),
  ) as unknown as WorkerCalls
  const bridge = createPageBridge({ platform: browser.platform() })

  /** Opens a port to the worker, as a page does; the event says what became of it. */
  const open = (event: object = {}) => {
    const { port1, port2 } = new MessageChannel()
    const waiting: Promise<unknown>[] = []
    const taken = bridge.answer(
      {
        data: { tokenward: PROTOCOL },
        origin: 'https://app.example',
        source: { id: 'page-1', type: 'window' },
        ports: [port2],
        waitUntil: (work: Promise<unknown>) => void waiting.push(work),
        ...event,
      } as never,
      () => ({ ...methods, ...more }),
    )
    const answers: unknown[] = []
    port1.onmessage = ({ data }) => answers.push(data)
    return { port: port1, answers, taken, waiting }
  }

  /** Sends raw frames on a port, and gives what ran and what was answered. */
  const send = async (...frames: unknown[]) => {
    const { port, answers } = open()
    for (const frame of frames) port.postMessage(frame)
    await settle()
    port.close()
    return { ran: ran.splice(0), answers }
  }

  return { browser, bridge, open, send, ran }
}

const raw = (value: unknown) => ({ type: 'RAW', value })

/** A frame as Comlink sends it. */
const frame = (more: object = {}) => ({
  id: '1',
  type: 'APPLY',
  path: ['session'],
  argumentList: [],
  ...more,
})

describe('a call of a page', () => {
  test('reaches the method with one plain argument, and is answered as data', async () => {
    const { send } = createBridge()
    const input = { returnTo: 'https://app.example/', params: { prompt: 'login' } }
    expect(await send(frame({ path: ['login'], argumentList: [raw(input)] }))).toEqual({
      ran: [['login', input]],
      answers: [{ id: '1', ...raw({ ok: true, value: { ran: 'login' } }) }],
    })
  })

  test('works with Comlink at the other end', async () => {
    const { open } = createBridge()
    const { port } = open()
    const remote = wrap<{ session(): Promise<unknown> }>(port)
    expect(await remote.session()).toEqual({ ok: true, value: { ran: 'session' } })
    port.close()
  })

  test.each(names)('of %s is one of the calls that exist', async (name) => {
    const inputs = {
      login: { returnTo: '/' },
      logoutOutcome: { url: '/' },
    }
    const value = inputs[name as keyof typeof inputs] ?? {}
    const { send } = createBridge()
    expect((await send(frame({ path: [name], argumentList: [raw(value)] }))).ran).toHaveLength(1)
  })

  test('keeps the worker alive until it is answered, and no longer', async () => {
    const { browser, open } = createBridge()
    const { port, waiting } = open()
    let over = false
    void Promise.all(waiting).then(() => {
      over = true
    })
    await browser.pass(50_000)
    expect(over).toBe(false)
    port.postMessage(frame())
    await settle()
    expect(over).toBe(true)
    expect(browser.timers()).toBe(0)
    port.close()
  })

  test('that never comes lets the worker go after a minute', async () => {
    const { browser, open } = createBridge()
    const { port, waiting } = open()
    const over = Promise.all(waiting)
    await browser.pass(60_000)
    await expect(over).resolves.toBeDefined()
    port.close()
  })

  test('that fails with a TokenError crosses as data (ER-01)', async () => {
    const { send } = createBridge({
      session: async () => {
        throw new TokenError('offline', 'There is no network.', new Error('secret'))
      },
    })
    const error = { code: 'offline', message: 'There is no network.' }
    expect((await send(frame())).answers).toEqual([{ id: '1', ...raw({ ok: false, error }) }])
  })

  test('that fails otherwise, or at once, says nothing of the cause (ER-02)', async () => {
    const session = () => {
      throw Object.assign(new Error('secret'), { code: 'secret' })
    }
    const { answers } = await createBridge({ session }).send(frame())
    const error = { code: 'worker_timeout', message: expect.any(String) }
    expect(answers).toEqual([{ id: '1', ...raw({ ok: false, error }) }])
    expect(JSON.stringify(answers)).not.toContain('secret')
  })

  test('is told why the worker has no methods for it', async () => {
    const browser = createFakeBrowser()
    const bridge = createPageBridge({ platform: browser.platform() })
    const { port1, port2 } = new MessageChannel()
    const wrong = new TokenError('invalid_configuration', 'apis must be a list.')
    bridge.answer(
      {
        data: { tokenward: PROTOCOL },
        origin: 'https://app.example',
        source: { id: 'page-1', type: 'window' },
        ports: [port2],
        waitUntil: () => {},
      } as never,
      () => new Proxy({} as WorkerCalls, { get: () => () => Promise.reject(wrong) }),
    )
    const remote = wrap<{ session(): Promise<unknown> }>(port1)
    expect(await remote.session()).toEqual({
      ok: false,
      error: { code: 'invalid_configuration', message: 'apis must be a list.' },
    })
    port1.close()
  })
})

describe('the guard drops (BR-01)', () => {
  const hello = [raw({})]
  const outcome = (value: unknown, ...more: unknown[]) =>
    frame({ path: ['logoutOutcome'], argumentList: [raw(value), ...more] })
  const cyclic: { self?: unknown } = {}
  cyclic.self = cyclic
  // What Comlink by itself would do with each of these is code execution, or near it.
  test.each<[string, unknown]>([
    ['GET', frame({ type: 'GET' })],
    ['GET of the root', frame({ type: 'GET', path: [] })],
    ['SET', frame({ type: 'SET', value: raw(1) })],
    ['SET of a prototype', frame({ type: 'SET', path: ['__proto__', 'x'], value: raw(1) })],
    ['CONSTRUCT', frame({ type: 'CONSTRUCT' })],
    [
      'CONSTRUCT of Function',
      frame({ type: 'CONSTRUCT', path: ['session', 'constructor'], argumentList: [raw('0')] }),
    ],
    ['ENDPOINT', frame({ type: 'ENDPOINT' })],
    ['RELEASE', frame({ type: 'RELEASE' })],
    ['no type', frame({ type: undefined })],
    ['a type in lower case', frame({ type: 'apply' })],
    ['a type that is a list', frame({ type: ['APPLY'] })],
    ['APPLY of the root', frame({ path: [] })],
    ['no path', frame({ path: undefined })],
    ['a path that is a string', frame({ path: 'session' })],
    ['a path like a list', frame({ path: { 0: 'session', length: 1 } })],
    ['a list in a path', frame({ path: [['session']] })],
    ['an object in a path', frame({ path: [{ toString: 'session' }] })],
    ['a number in a path', frame({ path: [0] })],
    ['call of Function', frame({ path: ['session', 'constructor'], argumentList: [raw('0')] })],
    ['bind', frame({ path: ['session', 'bind'] })],
    ['call', frame({ path: ['session', 'call'] })],
    ['a long path', frame({ path: Array(1000).fill('session') })],
    ['constructor', frame({ path: ['constructor'] })],
    ['__proto__', frame({ path: ['__proto__'] })],
    ['prototype', frame({ path: ['prototype'] })],
    ['toString', frame({ path: ['toString'] })],
    ['hasOwnProperty', frame({ path: ['hasOwnProperty'] })],
    ['__defineGetter__', frame({ path: ['__defineGetter__'] })],
    ['valueOf', frame({ path: ['valueOf'] })],
    ['then', frame({ path: ['then'] })],
    ['an unknown name', frame({ path: ['getToken'] })],
    ['a name in other case', frame({ path: ['Session'] })],
    ['an empty name', frame({ path: [''] })],
    ['no argument list', frame({ path: ['hello'], argumentList: undefined })],
    ['an argument list like a list', frame({ path: ['hello'], argumentList: { 0: hello[0] } })],
    ['no argument where one is needed', frame({ path: ['logoutOutcome'] })],
    ['an argument that is null', frame({ path: ['hello'], argumentList: [null] })],
    ['an argument that is no wire value', frame({ path: ['hello'], argumentList: ['x'] })],
    ['an argument in second place', frame({ path: ['hello'], argumentList: [raw({}), ...hello] })],
    ['two arguments', outcome({ url: '/' }, raw({ url: '/' }))],
    ['a thousand arguments', outcome({ url: '/' }, ...Array(1000).fill(raw({})))],
    ['an argument of another type', frame({ path: ['hello'], argumentList: [raw('1')] })],
    ['an argument that is a list', frame({ path: ['hello'], argumentList: [raw([])] })],
    ['an argument that is a Map (BR-02)', frame({ argumentList: [raw(new Map())] })],
    ['an argument that is a Set (BR-02)', frame({ argumentList: [raw(new Set())] })],
    ['an argument of bytes (BR-02)', frame({ argumentList: [raw(new Uint8Array(20_000_000))] })],
    ['an argument that is a buffer (BR-02)', frame({ argumentList: [raw(new ArrayBuffer(8))] })],
    ['an argument that is a Date', frame({ argumentList: [raw(new Date(0))] })],
    ['an argument that is an error', frame({ argumentList: [raw(new Error('x'))] })],
    ['a member of another type', outcome({ url: 1 })],
    ['a member that is a number JSON lacks', outcome({ url: 1n })],
    ['a member that is a String object', outcome({ url: Object('/') })],
    ['a member that goes in circles', outcome({ url: cyclic })],
    ['an id that is a number', frame({ id: 1 })],
    ['an id that turns into no string', frame({ id: { toString: 1, valueOf: 1 } })],
    ['an id of more than 16 KiB (BR-02)', frame({ id: 'x'.repeat(16_384) })],
    ['no id', frame({ id: undefined })],
    ['no returnTo', frame({ path: ['login'], argumentList: [raw({})] })],
    [
      'a returnTo that is a list',
      frame({ path: ['login'], argumentList: [raw({ returnTo: [] })] }),
    ],
    [
      'params that are no strings',
      frame({ path: ['login'], argumentList: [raw({ returnTo: '/', params: { max_age: 5 } })] }),
    ],
    [
      'params that are bytes',
      frame({
        path: ['login'],
        argumentList: [raw({ returnTo: '/', params: new Uint8Array(20_000_000) })],
      }),
    ],
    [
      'params that are null',
      frame({ path: ['login'], argumentList: [raw({ returnTo: '/', params: null })] }),
    ],
    [
      'params that are a string',
      frame({ path: ['login'], argumentList: [raw({ returnTo: '/', params: 'a' })] }),
    ],
    [
      'a local that is a string',
      frame({ path: ['logout'], argumentList: [raw({ local: 'true' })] }),
    ],
    [
      'a returnTo that is null',
      frame({ path: ['logout'], argumentList: [raw({ returnTo: null })] }),
    ],
    [
      'more than 16 KiB (BR-02)',
      frame({ path: ['login'], argumentList: [raw({ returnTo: `/${'x'.repeat(16_384)}` })] }),
    ],
    [
      'more than 16 KiB of params (BR-02)',
      frame({
        path: ['login'],
        argumentList: [
          raw({
            returnTo: '/',
            params: Object.fromEntries(Array.from({ length: 4_000 }, (_, key) => [key, ''])),
          }),
        ],
      }),
    ],
    ['a string', 'session'],
    ['null', null],
    ['a list', [frame()]],
    ['a Map', new Map(Object.entries(frame()))],
    ['a frame that is an error', Object.assign(new Error('x'), frame())],
    ['nothing', undefined],
  ])('%s', async (_title, message) => {
    const { send } = createBridge()
    expect(await send(message)).toEqual({ ran: [], answers: [] })
    expect(Object.keys(Object.prototype)).toEqual([])
  })

  test('whatever a page thinks up, unless it is a listed call with a well-formed argument', {
    timeout: 30_000,
  }, async () => {
    const word = fc.oneof(
      fc.constantFrom(...names, 'constructor', '__proto__', 'prototype', 'toString', 'apply'),
      fc.string(),
    )
    const anyFrame = fc.record(
      {
        id: fc.anything(),
        type: fc.constantFrom('APPLY', 'GET', 'SET', 'CONSTRUCT', 'ENDPOINT', 'RELEASE'),
        path: fc.oneof(fc.array(word, { maxLength: 3 }), fc.anything()),
        argumentList: fc.oneof(
          fc.array(fc.record({ type: fc.constantFrom('RAW', 'HANDLER'), value: fc.anything() })),
          fc.array(fc.record({ type: fc.constant('RAW'), value: fc.object() })),
          fc.anything(),
        ),
        value: fc.anything(),
      },
      { requiredKeys: ['type'] },
    )
    const { open, ran } = createBridge()
    const free = ['claim', 'session', 'checkSession', 'renew', 'logout']
    await fc.assert(
      fc.asyncProperty(anyFrame, async (message) => {
        const { port, answers } = open()
        try {
          port.postMessage(message)
        } catch {
          // It cannot even be sent.
          return
        } finally {
          await new Promise((resolve) => setTimeout(resolve, 1))
          port.close()
        }
        const calls = ran.splice(0)
        expect(answers.length).toBeLessThanOrEqual(calls.length)
        for (const [name, input, ...more] of calls) {
          expect(message).toMatchObject({ type: 'APPLY', path: [name] })
          expect(more).toEqual([])
          expect(JSON.parse(JSON.stringify(input))).toEqual(input)
          if (!free.includes(name)) expect(Object.keys(input as object)).not.toEqual([])
        }
      }),
      { numRuns: 300 },
    )
  })

  test('what no method asks for in an argument, and lets the rest through (BR-02)', async () => {
    const { send } = createBridge()
    const more = { list: new Map([[1, 2]]), big: 1n, cyclic, bytes: new Uint8Array(20_000) }
    const { ran } = await send(frame({ argumentList: [raw(more)] }), outcome({ url: '/' }))
    expect(ran).toEqual([['session', {}]])
    expect((await send(outcome({ ...more, url: '/' }))).ran).toEqual([
      ['logoutOutcome', { url: '/' }],
    ])
  })

  test('a prototype that is hidden in an argument (BR-01)', async () => {
    const { send } = createBridge()
    const hidden = '"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":1}}'
    const value = JSON.parse(`{"returnTo":"/",${hidden},"params":{"__proto__":"x","toString":"y"}}`)
    const { ran } = await send(frame({ path: ['login'], argumentList: [raw(value)] }))
    const [[, input] = []] = ran as [string, { params: object }][]
    expect(Object.keys(input!)).toEqual(['returnTo', 'params'])
    expect(Object.getPrototypeOf(input)).toBe(Object.prototype)
    expect(Object.entries(input!.params)).toEqual([
      ['__proto__', 'x'],
      ['toString', 'y'],
    ])
    expect(Object.getPrototypeOf(input!.params)).toBe(Object.prototype)
    expect({}).not.toHaveProperty('polluted')
  })

  test.each(['proxy', 'throw'])("Comlink's transfer handler %s (BR-02)", async (name) => {
    const { open, ran } = createBridge()
    const { port, answers } = open()
    const { port1, port2 } = new MessageChannel()
    const used = vi.fn()
    port1.onmessage = used
    const wire = { type: 'HANDLER', name, value: port2 }
    port.postMessage(frame({ argumentList: [wire] }), [port2])
    await settle()
    expect({ ran, answers }).toEqual({ ran: [], answers: [] })
    expect(used).not.toHaveBeenCalled()
    port.close()
    port1.close()
  })

  test('what comes after the one call of a port', async () => {
    const { send } = createBridge()
    const { ran, answers } = await send(
      frame(),
      frame({ id: '2', path: ['renew'] }),
      frame({ id: '3', type: 'CONSTRUCT', path: ['session', 'constructor'] }),
    )
    expect(ran).toEqual([['session', {}]])
    expect(answers).toHaveLength(1)
  })

  test('nothing else with a bad message: the call after it still works', async () => {
    const { send } = createBridge()
    const { ran } = await send('x', frame({ type: 'GET' }), frame({ path: ['renew'] }))
    expect(ran).toEqual([['renew', {}]])
  })
})

describe('a page of another version', () => {
  test.each([2, 0, '1', null, {}])(
    '%j is told so, whatever it calls (BR-09)',
    async (tokenward) => {
      const { open, ran } = createBridge()
      for (const path of [['hello'], ['session'], ['renew']]) {
        const { port, answers } = open({ data: { tokenward } })
        port.postMessage(frame({ path }))
        await settle()
        expect(answers).toMatchObject([{ value: { ok: false, error: { code: 'bridge_version' } } }])
        port.close()
      }
      expect(ran).toEqual([])
    },
  )
})

// Each port and each frame is a real one, which takes its time on a busy machine.
describe('a flood', { timeout: 30_000 }, () => {
  const other = { source: { id: 'page-2', type: 'window' } }

  test('of ports from one page leaves at most 256 open, and the others their answers (BR-05)', async () => {
    const { browser, open } = createBridge()
    const all = Array.from({ length: 1_000 }, () => open())
    expect(all.every(({ taken }) => taken)).toBe(true)
    expect(all.filter(({ waiting }) => waiting.length > 0)).toHaveLength(256)
    expect(browser.timers()).toBe(256)
    const calling = open(other)
    calling.port.postMessage(frame())
    await settle()
    expect(calling.answers).toHaveLength(1)
    expect(browser.timers()).toBe(256)
    // After a minute, or once it has its answers, the page may go on.
    await browser.pass(60_000)
    expect(browser.timers()).toBe(0)
    const later = open()
    later.port.postMessage(frame())
    await settle()
    expect(later.answers).toHaveLength(1)
    for (const { port } of [...all, calling, later]) port.close()
  })

  test('of calls that are answered has no limit (BR-05)', async () => {
    const { browser, open } = createBridge()
    for (let round = 0; round < 4; round++) {
      const all = Array.from({ length: 250 }, () => open())
      for (const { port } of all) port.postMessage(frame())
      await settle()
      expect(all.every(({ answers }) => answers.length === 1)).toBe(true)
      expect(browser.timers()).toBe(0)
      for (const { port } of all) port.close()
    }
  })

  test('of bad messages on one port runs nothing, and the port still works (BR-01)', async () => {
    const { send } = createBridge()
    const bad = Array.from({ length: 5_000 }, () => frame({ type: 'CONSTRUCT', path: [] }))
    expect(await send(...bad, frame())).toMatchObject({ ran: [['session', {}]] })
  })

  test('of calls after its time has passed runs nothing (BR-05)', async () => {
    const { browser, open, ran } = createBridge()
    const { port } = open()
    await browser.pass(60_000)
    port.postMessage(frame())
    await settle()
    expect(ran).toEqual([])
    port.close()
  })
})

describe('a message is not a call (BR-03)', () => {
  test.each<[string, object]>([
    ['without our marker', { data: {} }],
    ['without data', { data: null }],
    ['that is a string', { data: 'tokenward' }],
    ['without a port', { ports: [] }],
    ['from another origin', { origin: 'https://evil.example' }],
    ['from a look-alike origin', { origin: 'https://app.example.evil.net' }],
    ['from the same host over http', { origin: 'http://app.example' }],
    ['from a sandboxed frame', { origin: 'null' }],
    ['without origin', { origin: '' }],
    ['from nowhere', { source: null }],
    ['from a dedicated worker', { source: { id: 'w', type: 'worker' } }],
    ['from a shared worker', { source: { id: 'w', type: 'sharedworker' } }],
    ['from another service worker', { source: { scriptURL: 'https://app.example/sw.js' } }],
    ['from a port', { source: new MessageChannel().port1 }],
  ])('%s', async (_title, event) => {
    const { open, ran } = createBridge()
    const { taken, port, waiting } = open(event)
    port.postMessage(frame())
    await settle()
    expect({ taken, waiting, ran }).toEqual({ taken: false, waiting: [], ran: [] })
    port.close()
  })
})

describe('the worker', () => {
  test('calls a page and gets its answer', async () => {
    const { bridge } = createBridge()
    const page = fakePage({
      calls: {
        openFrame: async ({ limit }) => ({ end: 'done', loaded: limit > 0, isolated: false }),
      },
    })
    const input = { url: 'https://app.example/a', doneUrl: 'https://app.example/b', limit: 1 }
    expect(await bridge.call({ page, name: 'openFrame', input, limit: 1000 })).toEqual({
      end: 'done',
      loaded: true,
      isolated: false,
    })
  })

  test('waits no longer for a page than it said', async () => {
    const { browser, bridge } = createBridge()
    const answer = bridge.call({ page: fakePage(), name: 'probe', input: undefined, limit: 1000 })
    await browser.pass(999)
    expect(browser.timers()).toBe(1)
    await browser.pass(1)
    expect(await answer).toBeUndefined()
  })

  test('tells every page, controlled or not, in frames too', async () => {
    const { browser, bridge } = createBridge()
    browser.pages = [fakePage(), fakePage({ topLevel: false, visible: false }), fakePage()]
    await bridge.publish({ type: 'signed-out', reason: 'logout' })
    const event = { type: 'signed-out', reason: 'logout' }
    expect(browser.pages.map(({ events }) => events)).toEqual([[event], [event], [event]])
  })
})
