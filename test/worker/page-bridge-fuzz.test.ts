import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Answer } from '../../src/shared/errors.js'
import { PROTOCOL, type WorkerCalls } from '../../src/shared/protocol.js'
import { createTokenWorker } from '../../sw/token-worker.js'
import { fakePage } from '../support/fake-platform.js'
import { createUnitWorld, readDatabase, workingOptions } from '../support/worker-parts.js'

// What a script in the page can do with a port to the worker: everything here goes over a real
// MessagePort, as raw frames, to the whole worker behind the guard.

const app = 'https://app.example/'

const names = Object.keys({
  hello: 1,
  claim: 1,
  session: 1,
  login: 1,
  checkSession: 1,
  renew: 1,
  online: 1,
  logout: 1,
  logoutOutcome: 1,
} satisfies Record<keyof WorkerCalls, 1>) as (keyof WorkerCalls)[]

/** A worker with a page that runs hidden frames, and the sign-in done. */
const createWorld = async () => {
  const { browser, server } = createUnitWorld()
  const options = workingOptions({ scope: 'openid offline_access' })
  const worker = createTokenWorker(options, browser.platform(server.fetch))

  const open = () => {
    const { port1, port2 } = new MessageChannel()
    const waiting: Promise<unknown>[] = []
    worker.handle({
      data: { tokenward: PROTOCOL },
      origin: 'https://app.example',
      source: { id: 'page-1', type: 'window' },
      ports: [port2],
      waitUntil: (work: Promise<unknown>) => void waiting.push(work),
    } as never)
    return { port: port1, waiting }
  }

  /** Sends one frame; what comes back, or nothing after the next frame has been answered. */
  const send = async (frame: unknown): Promise<unknown[]> => {
    const { port } = open()
    const answers: { id: string }[] = []
    const answered = new Promise<void>((resolve) => {
      port.onmessage = ({ data }) => {
        answers.push(data)
        resolve()
      }
    })
    try {
      port.postMessage(frame)
      // Whatever the guard drops leaves the port open for this one.
      port.postMessage({ id: 'end', type: 'APPLY', path: ['hello'], argumentList: [] })
      await answered
    } catch (cause) {
      // It cannot even be sent.
      if ((cause as Error).name !== 'DataCloneError') throw cause
    } finally {
      port.close()
    }
    return answers.filter(({ id }) => id !== 'end')
  }

  const call = async (name: string, value: unknown): Promise<Answer<never> | undefined> => {
    const argumentList = [{ type: 'RAW', value }]
    const [answer] = await send({ id: '1', type: 'APPLY', path: [name], argumentList })
    return (answer as { value: Answer<never> } | undefined)?.value
  }

  const navigate = async (url: string, destination: string): Promise<string> => {
    const request = new Request(url)
    Object.defineProperty(request, 'mode', { value: 'navigate' })
    Object.defineProperty(request, 'destination', { value: destination })
    let response: Promise<Response> | undefined
    worker.handle({
      request,
      clientId: '',
      resultingClientId: 'page-1',
      respondWith: (answer: Promise<Response>) => {
        response = answer
      },
      waitUntil: () => {},
    } as never)
    return (await response)?.headers.get('location') ?? ''
  }

  const signIn = async () => {
    const answer = (await call('login', { returnTo: app })) as { value?: { url: string } }
    const away = await navigate(answer.value?.url ?? '', 'document')
    await navigate(server.authorize(away).href, 'document')
  }

  const page = fakePage({
    id: 'page-1',
    calls: {
      probe: () => ({ able: true, visible: true }),
      openFrame: async ({ url, doneUrl }) => {
        const away = server.authorize(await navigate(url, 'iframe'))
        const end = await navigate(away.href, 'iframe')
        return { end: end.startsWith(doneUrl) ? 'done' : 'timeout', loaded: true, isolated: false }
      },
    },
  })
  browser.pages.push(page)
  await signIn()
  const databaseName = `tokenward ${options.issuer} ${options.clientId}`
  return { browser, server, send, call, signIn, page, databaseName }
}

/** Every string of some length inside a value, at any depth. */
const stringsIn = (value: unknown): string[] =>
  typeof value === 'string'
    ? [value]
    : typeof value === 'object' && value !== null
      ? Object.values(value).flatMap(stringsIn)
      : []

const word = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...names) },
  fc.constantFrom('constructor', '__proto__', 'prototype', 'toString', 'apply', 'then', ''),
  fc.string(),
)
/** What structured cloning carries, and more. */
const anything = fc.oneof(
  fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
  }),
  fc.constantFrom(new Error('x'), /x/g, new ArrayBuffer(9), new Blob(['x'])),
  fc.constant(null).map(() => {
    const cyclic: Record<string, unknown> = {}
    cyclic['returnTo'] = cyclic
    return cyclic
  }),
)
const wire = fc.record(
  { type: fc.constantFrom('RAW', 'HANDLER'), name: word, value: anything },
  { requiredKeys: [] },
)
const frame = fc.record(
  {
    id: fc.oneof(fc.constant('1'), anything),
    type: fc.oneof(
      { weight: 4, arbitrary: fc.constant('APPLY') },
      fc.constantFrom('GET', 'SET', 'CONSTRUCT', 'ENDPOINT', 'RELEASE'),
      anything,
    ),
    path: fc.oneof(
      { weight: 4, arbitrary: fc.tuple(word) },
      fc.array(word, { maxLength: 4 }),
      anything,
    ),
    argumentList: fc.oneof(fc.array(wire, { maxLength: 3 }), anything),
    value: anything,
  },
  { requiredKeys: ['type'] },
)

/** Is this a call that a page may make? Said independently of the guard. */
const mayRun = (value: unknown): boolean => {
  const { id, type, path, argumentList } = value as Record<string, unknown[]>
  return (
    typeof id === 'string' &&
    String(type) === 'APPLY' &&
    Array.isArray(path) &&
    path.length === 1 &&
    (names as unknown[]).includes(path[0]) &&
    Array.isArray(argumentList) &&
    argumentList.length <= 1
  )
}

const untouched = () => {
  expect(Reflect.ownKeys(Object.prototype)).toEqual(prototypeBefore)
  expect(Reflect.ownKeys(Function.prototype)).toEqual(functionBefore)
}
const prototypeBefore = Reflect.ownKeys(Object.prototype)
const functionBefore = Reflect.ownKeys(Function.prototype)

describe('whatever a page posts', { timeout: 60_000 }, () => {
  test('never throws in the worker, runs nothing but well-formed calls, and leaves prototypes alone (BR-01)', async () => {
    const { send } = await createWorld()
    const thrown: unknown[] = []
    const note = (cause: unknown) => void thrown.push(cause)
    process.on('uncaughtException', note)
    try {
      await fc.assert(
        fc.asyncProperty(fc.oneof(frame, frame, anything), async (message) => {
          const answers = await send(message)
          if (answers.length > 0) expect(mayRun(message)).toBe(true)
          expect(thrown).toEqual([])
          untouched()
        }),
        { numRuns: 500 },
      )
    } finally {
      process.off('uncaughtException', note)
    }
  })
})

describe('every call', { timeout: 60_000 }, () => {
  const string = fc.oneof(
    fc.constantFrom(app, '/', '', 'https://evil.example/', 'javascript:alert(1)', `${app}#x`),
    fc.webUrl(),
    fc.string(),
  )
  const params = fc.dictionary(
    fc.oneof(
      fc.constantFrom('prompt', 'state', 'code_challenge', 'redirect_uri', '__proto__', 'audience'),
      fc.string(),
    ),
    fc.string(),
    { maxKeys: 4, noNullPrototype: true },
  )
  /** Well-formed arguments, with more than was asked for. */
  const input = fc.record(
    {
      returnTo: string,
      params,
      local: fc.boolean(),
      url: string,
      protocol: fc.integer(),
      token: fc.string(),
      __proto__: fc.object(),
    },
    { requiredKeys: ['returnTo', 'url'], noNullPrototype: true },
  )

  test('settles with an answer for any argument object (BR-02), and none has a secret in it (BR-04)', async () => {
    const { server, call, signIn, page, databaseName, browser } = await createWorld()
    let calls = 0
    const told: unknown[] = []
    const tell = (value: unknown) => {
      told.push(value)
      return value
    }
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), input, async (name, argument) => {
        const answer = tell(await call(name, argument)) as Answer<unknown> | undefined
        expect(answer, name).toMatchObject({ ok: expect.any(Boolean) })
        if (!answer?.ok) expect(answer?.error).toMatchObject({ code: expect.any(String) })
        calls++
        const session = await call('session', undefined)
        if (!session?.ok || !('session' in (session.value as object))) await signIn()
        untouched()
      }),
      { numRuns: 200 },
    )
    expect(calls).toBeGreaterThan(150)
    // The server's own list, and the strings on the disk that a page must not be told of.
    const stored = Object.values(await readDatabase(databaseName))
    const kept = stringsIn(
      stored.flat().map(([, record]) => {
        const { accessToken, refreshToken, idToken, sent } = record as Record<string, unknown>
        return [accessToken, refreshToken, idToken, sent && { ...sent, redirectUri: '' }]
      }),
    )
    const secrets = [...server.secrets, ...kept].filter(({ length }) => length > 8)
    expect(secrets.length).toBeGreaterThan(20)
    const text = JSON.stringify([told, page.events, browser.announcements, browser.locks])
    expect(secrets.filter((secret) => text.includes(secret))).toEqual([])
    expect(text).not.toMatch(/CryptoKey|code_verifier|eyJ/)
  })
})
