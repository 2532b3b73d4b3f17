// A browser that nobody looks into: DevTools, and so Playwright, keep a worker alive for ever.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'
import { startBrowser } from '../support/plain-browser.js'
import { NONCE } from '../support/strict-policy.js'
import { authorizationsAt, refreshesAt, startServers } from '../support/world.js'

/** s; the browser stops a worker after 30 s without events. */
const idle = 90
/** s and events of a stream */
const streamed = 75

/** Each start of the worker is told to the site, whatever it is for. */
const tellStart = "fetch('/start/', { method: 'POST' })"

/** The script of the page: it acts by itself, and waits at each report until it may go on. */
const act = (api: string) => `
  import { createTokenManager } from '/tokenward.js'

  const report = async (step, value) => {
    const body = JSON.stringify({ step, value })
    await fetch('/report/', { method: 'POST', body })
  }
  const request = () => {
    const start = performance.now()
    return fetch('${api}/me').then(({ status }) => status, ({ name }) => name)
      .then((answer) => ({ answer, seconds: (performance.now() - start) / 1000 }))
  }
  /** Timers of the page: nothing reaches the worker. */
  const sleep = (seconds) => new Promise((awake) => setTimeout(awake, seconds * 1000))

  const auth = createTokenManager('/sw.js')
  const events = []
  auth.onChange(({ type }) => events.push(type))
  await auth.ready
  if (!(await auth.session())) {
    await report('signed out')
    await auth.login()
  }
  await report('signed in')
  await sleep(${idle})
  await report('after the idle time', await request())
  await report('before a slow answer')
  await report('after it', await request())
  await report('before no answer')
  await report('after none', await request())
  await sleep(3)
  await report('at the end', { ...(await request()), events })`

/** Nothing but a stream: its worker has to stay, though nothing else happens. */
const listen = (api: string) => `
  import { createTokenManager } from '/tokenward.js'

  const report = async (step, value) => {
    const body = JSON.stringify({ step, value })
    await fetch('/report/', { method: 'POST', body })
  }
  const auth = createTokenManager('/sw.js')
  await auth.ready
  if (!(await auth.session())) await auth.login()
  await report('signed in')
  const source = new EventSource('${api}/stream?count=1000&ms=1000')
  let events = 0
  let errors = 0
  source.onerror = () => errors++
  await new Promise((resolve) => {
    source.onmessage = () => ++events === ${streamed} && resolve()
  })
  source.close()
  const { status: answer } = await fetch('${api}/me')
  await report('after the stream', { answer, events: [events, errors] })`

interface Report {
  step: string
  value: { answer: number | string; seconds: number; events: unknown[] }
  /** How often the worker had been started until then. */
  starts: number
}

type Servers = Awaited<ReturnType<typeof startServers>>

/** Lets the page act to its end, or until `last`; `reactions` come before it goes on. */
const watch = async (
  server: Parameters<typeof startServers>[0],
  reactions: Partial<Record<string, (servers: Servers) => void>>,
  last: string,
  script = act,
) => {
  const reports: Report[] = []
  let starts = 0
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const onReport = async (request: IncomingMessage, response: ServerResponse) => {
    const report = { ...JSON.parse(await text(request)), starts } as Report
    reports.push(report)
    reactions[report.step]?.(servers)
    response.writeHead(204).end()
    if (report.step === last) finish()
  }
  const onStart = (_: IncomingMessage, response: ServerResponse) => {
    starts++
    response.writeHead(204).end()
  }
  const servers: Servers = await startServers({
    ...server,
    beforeWorker: tellStart,
    mounts: { '/report/': onReport, '/start/': onStart },
  })
  const body = `<!doctype html><meta charset="utf-8"><title>alone</title>
    <link rel="icon" href="data:,"><script type="module" nonce="${NONCE}">${script(servers.api.url)}</script>`
  servers.site.addFile('/', { body, type: 'text/html' })
  const browser = await startBrowser([servers.url])
  try {
    await finished
    expect(servers.unhandled).toEqual([])
  } finally {
    await browser.close()
    await servers.close()
  }
  const at = (step: string) => reports.find((report) => report.step === step)
  return { at, servers }
}

const forget = ({ as }: Servers) => as.expireAccessTokens()

describe.concurrent('a worker that the browser has stopped for want of events', () => {
  test('renews once for the next request, then takes its time (RF-05, RF-06)', async () => {
    const refresh = { path: '/token', grantType: 'refresh_token', times: 1 } as const
    let afterIdle = 0
    const { at, servers } = await watch(
      { server: { consentRemembered: true, accessTokenSeconds: idle / 2 } },
      {
        'after the idle time': ({ as }) => {
          afterIdle = refreshesAt(as).length
        },
        'before a slow answer': (servers) => {
          forget(servers)
          servers.as.setFault({ ...refresh, kind: 'delay', ms: 10_000 })
        },
        'before no answer': (servers) => {
          forget(servers)
          servers.as.setFault({ ...refresh, kind: 'hang' })
        },
      },
      'at the end',
    )
    const { as } = servers
    // The worker was not there when the request came.
    expect(at('after the idle time')?.starts).toBe((at('signed in')?.starts ?? 0) + 1)
    expect(at('after the idle time')?.value.answer).toBe(200)
    expect(afterIdle).toBe(1)
    // Ten seconds are a long time in the life of a worker, but it waits for an answer.
    expect(at('after it')?.value).toMatchObject({ answer: 200 })
    expect(at('after it')?.value.seconds).toBeGreaterThan(9)
    expect(
      refreshesAt(as)
        .slice(0, 2)
        .map(({ status }) => status),
    ).toEqual([200, 200])
    // Fifteen are too long. The token may be good or not: it is, and nobody had to sign in.
    expect(at('after none')?.value).toMatchObject({ answer: 'TypeError' })
    expect(at('after none')?.value.seconds).toBeGreaterThan(14)
    expect(at('after none')?.value.seconds).toBeLessThan(14 + limit(6))
    expect(at('at the end')?.value.answer).toBe(200)
    expect(refreshesAt(as).map(({ status }) => status)).toEqual([200, 200, 0, 200])
    expect(authorizationsAt(as)).toHaveLength(1)
    expect(at('at the end')?.value.events).not.toContain('signed-out')
  })

  test('signs in silently where the refresh token is dead by then (SI-01)', async () => {
    const { at, servers } = await watch(
      { server: { consentRemembered: true } },
      {
        'signed in': (servers) => {
          forget(servers)
          servers.as.revokeRefreshTokens()
        },
      },
      'after the idle time',
    )
    expect(at('after the idle time')?.starts).toBe((at('signed in')?.starts ?? 0) + 1)
    expect(at('after the idle time')?.value.answer).toBe(200)
    expect(authorizationsAt(servers.as)).toHaveLength(2)
  })

  test('finds what it needs when somebody takes a minute to sign in (CB-06)', async () => {
    const think = { path: '/interaction/', kind: 'delay', ms: 60_000, times: 1 } as const
    const { at, servers } = await watch(
      {},
      { 'signed out': ({ as }) => as.setFault(think) },
      'signed in',
    )
    expect(at('signed in')?.starts).toBe((at('signed out')?.starts ?? 0) + 1)
    expect(authorizationsAt(servers.as)).toHaveLength(1)
    expect(servers.as.requests.map(({ grantType }) => grantType)).toContain('authorization_code')
  })
})

test.concurrent('a stream of 75 s keeps its worker, and loses nothing (IN-15)', async () => {
  const { at, servers } = await watch({}, {}, 'after the stream', listen)
  const { value, starts } = at('after the stream') ?? {}
  expect(value).toEqual({ answer: 200, events: [streamed, 0] })
  expect(starts).toBe(at('signed in')?.starts)
  expect(refreshesAt(servers.as)).toEqual([])
})
