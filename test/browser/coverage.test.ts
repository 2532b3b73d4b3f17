// Every way to make a request, what it carries and what it costs: the table of docs/requests.md.
// `UPDATE_DOCS=1` writes it.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { expect, test } from 'vitest'
import { openSignedIn, useWorld } from '../support/world.js'

const world = useWorld()

interface Way {
  /** As the table names it. */
  way: string
  /** What the page does. Over when the page has what it gets. */
  send?: (url: string) => unknown
  /** Or an element that does it by itself; `URL` stands for the URL. */
  html?: string
  /** `destinations` of the API's entry list what this element is. */
  listed?: true
  /** The API on the app's own origin, for what cannot reach another. */
  own?: true
  /** What is lost, or how to do it instead. */
  note?: string
}

const blob = 'Fetch it and make a blob URL, or see `destinations`.'
const noToken = 'Fetch it, and use the answer.'

const ways: Way[] = [
  {
    way: '`fetch`',
    send: (url) => fetch(url),
    note: 'An abort before the answer, unless it is `abortableFetch`.',
  },
  { way: '`fetch` to the own origin', own: true, send: (url) => fetch(url) },
  { way: '`fetch` with `keepalive`', send: (url) => fetch(url, { keepalive: true }) },
  {
    way: '`fetch` with an `Authorization` of its own',
    send: (url) => fetch(url, { headers: { authorization: 'Basic YTpi' } }),
    note: 'Leave the header out.',
  },
  { way: "`fetch` with `mode: 'no-cors'`", send: (url) => fetch(url, { mode: 'no-cors' }) },
  {
    way: '`fetch` with a stream as body',
    send: (url) => {
      const body = new Blob(['text']).stream()
      return fetch(url, { method: 'POST', body, duplex: 'half' } as RequestInit)
    },
    note: 'Chromium sends streams over HTTP/2 only. Give it a Blob: that is repeated, too.',
  },
  {
    way: 'XHR',
    send: (url) =>
      new Promise((resolve) => {
        const request = new XMLHttpRequest()
        request.open('GET', url)
        request.onloadend = resolve
        request.send()
      }),
    note: 'Progress events of an upload, and an abort before the answer.',
  },
  {
    way: 'XHR, synchronous',
    own: true,
    send: (url) => {
      const request = new XMLHttpRequest()
      request.open('GET', url, false)
      request.send()
    },
    note: noToken,
  },
  {
    way: 'EventSource',
    send: (url) =>
      new Promise((resolve) => {
        const source = new EventSource(url)
        source.onopen = source.onerror = () => {
          source.close()
          resolve(0)
        }
      }),
    note: 'A connection that ends because the browser stops the worker is not opened again by itself.',
  },
  {
    way: 'WebSocket',
    send: (url) =>
      new Promise((resolve) => {
        new WebSocket(url.replace('http', 'ws')).onclose = resolve
      }),
    note: 'Fetch a ticket for one use from the API, and put it into the URL.',
  },
  {
    way: '`caches.open(…).add(url)`',
    send: async (url) => (await caches.open('own')).add(url),
    note: 'What lies there is for every user of the browser: name the cache by user.',
  },
  {
    way: 'Web worker, from a file',
    send: (url) =>
      new Promise((resolve) => {
        const worker = new Worker('/calls.js')
        worker.onmessage = resolve
        worker.postMessage(url)
      }),
  },
  {
    way: 'Web worker, from a blob',
    send: async (url) => {
      const source = await (await fetch('/calls.js')).text()
      return await new Promise((resolve) => {
        const worker = new Worker(URL.createObjectURL(new Blob([source])))
        worker.onmessage = resolve
        worker.postMessage(url)
      })
    },
  },
  {
    way: 'SharedWorker',
    send: (url) =>
      new Promise((resolve) => {
        const { port } = new SharedWorker('/calls.js')
        port.onmessage = resolve
        port.postMessage(url)
      }),
  },
  {
    way: 'Frame of the own origin',
    send: async (url) => {
      const frame = document.createElement('iframe')
      frame.src = '/calls.html'
      await new Promise((resolve) => {
        frame.onload = resolve
        document.body.append(frame)
      })
      return await (frame.contentWindow as Window & typeof globalThis).fetch(url)
    },
  },
  {
    way: 'Frame with `srcdoc`',
    send: async (url) => {
      const frame = document.createElement('iframe')
      frame.srcdoc = '<p>same origin</p>'
      await new Promise((resolve) => {
        frame.onload = resolve
        document.body.append(frame)
      })
      return await (frame.contentWindow as Window & typeof globalThis).fetch(url)
    },
  },
  {
    way: 'Frame with `sandbox`',
    send: (url) => {
      const frame = document.createElement('iframe')
      frame.sandbox.add('allow-scripts')
      frame.srcdoc = `<script>fetch(${JSON.stringify(url)})</script>`
      document.body.append(frame)
    },
    note: 'It is another origin: post it what it needs.',
  },
  { way: '`<img>`', html: '<img src="URL">', note: blob },
  { way: '`<img crossorigin>`', html: '<img src="URL" crossorigin>', note: blob },
  {
    way: '`<img crossorigin>`, listed',
    html: '<img src="URL" crossorigin>',
    listed: true,
    note: 'Put it into the page after `ready`.',
  },
  { way: '`<img>` without `crossorigin`, listed', html: '<img src="URL">', listed: true },
  {
    way: 'Image of a style sheet',
    html: '<p style="background-image: url(URL)">.</p>',
    note: blob,
  },
  { way: '`<video>`', html: '<video src="URL" preload="auto"></video>', note: blob },
  { way: '`<video crossorigin>`', html: '<video src="URL" preload="auto" crossorigin></video>' },
  {
    way: '`<video crossorigin>`, listed',
    html: '<video src="URL" preload="auto" crossorigin></video>',
    listed: true,
  },
  {
    way: '`<audio crossorigin>`, listed',
    html: '<audio src="URL" preload="auto" crossorigin></audio>',
    listed: true,
  },
  {
    way: '`<track>` in `<video crossorigin>`, listed',
    html: '<video crossorigin><track src="URL" default></video>',
    listed: true,
  },
  {
    way: 'Font of a style sheet',
    send: (url) => new FontFace('one', `url(${url})`).load(),
  },
  {
    way: 'Font of a style sheet, listed',
    send: (url) => new FontFace('two', `url(${url})`).load(),
    listed: true,
  },
  { way: '`<script>`', html: '<script src="URL"></script>', note: 'Scripts never get one.' },
  {
    way: '`<script crossorigin>`, listed',
    html: '<script src="URL" crossorigin></script>',
    listed: true,
  },
  { way: '`<script type="module">`', html: '<script type="module" src="URL"></script>' },
  { way: '`<link rel="stylesheet">`', html: '<link rel="stylesheet" href="URL">' },
  {
    way: '`<link rel="preload" as="fetch">`',
    html: '<link rel="preload" as="fetch" href="URL" crossorigin>',
  },
  { way: '`<object>`, `<embed>`', html: '<object data="URL"></object>' },
  { way: '`<iframe>` of an API', html: '<iframe src="URL"></iframe>', note: noToken },
  {
    way: 'Link to an API',
    own: true,
    send: (url) => {
      window.open(url)
    },
    note: 'Fetch it, and show a blob URL; or a link for one use from the API.',
  },
  {
    way: '`<a download>`',
    own: true,
    send: (url) => {
      const link = document.createElement('a')
      link.href = url
      link.download = 'file'
      link.click()
    },
    note: 'Fetch it, and make it a download of a blob URL.',
  },
  {
    way: '`<a ping>`',
    send: (url) => {
      const link = document.createElement('a')
      link.href = '#ping'
      link.ping = url
      link.click()
    },
  },
  {
    way: 'Form that is posted',
    own: true,
    send: (url) => {
      const form = document.createElement('form')
      form.method = 'post'
      form.action = url
      form.target = '_blank'
      document.body.append(form)
      form.submit()
    },
    note: 'Take its `submit` event, and fetch with `new FormData(form)`.',
  },
  {
    way: '`sendBeacon`',
    send: (url) => {
      navigator.sendBeacon(url, 'x')
    },
    note: '`fetch` with `keepalive`.',
  },
  {
    way: '`fetchLater`',
    send: (url) => {
      const { fetchLater } = window as unknown as Record<string, (...a: unknown[]) => unknown>
      fetchLater?.(url, { activateAfter: 0 })
    },
    note: '`fetch` with `keepalive`.',
  },
  {
    way: 'Background Fetch',
    send: async (url) => {
      const { backgroundFetch } = (await navigator.serviceWorker.ready) as unknown as {
        backgroundFetch: { fetch(id: string, urls: string[]): unknown }
      }
      await backgroundFetch.fetch(url, [url])
    },
    note: 'Let the API hand out URLs for one use.',
  },
]

/** Puts an element into the page, and waits until it has loaded or failed. */
const insert = (page: Page, html: string) =>
  page.evaluate(
    (html) =>
      new Promise((resolve) => {
        // Unlike innerHTML, this makes scripts that are fetched.
        const fragment = document.createRange().createContextualFragment(html)
        for (const element of fragment.querySelectorAll('*')) {
          for (const type of ['load', 'loadeddata', 'error']) {
            element.addEventListener(type, resolve)
          }
        }
        // A picture of a style sheet has no event.
        if (html.includes('style=')) setTimeout(resolve, 100)
        document.body.append(fragment)
      }),
    html,
  )

interface Row {
  token: string
  repeated: string
}

const doc = fileURLToPath(new URL('../../docs/requests.md', import.meta.url))
const [start, end] = [/<!-- ways: .* -->\n/, '<!-- /ways -->']

const text = () => readFileSync(doc, 'utf8')

/** The rows of the table as they are written down. */
const readTable = () => {
  const [, rest = ''] = text().split(start)
  const [table = ''] = rest.split(end)
  return table.trim()
}

const tableOf = (rows: readonly Row[]) =>
  [
    '| | Token | Repeated after a 401 | What is lost, or what to do instead |',
    '| --- | --- | --- | --- |',
    ...rows.map(({ token, repeated }, index) => {
      const { way, note = '' } = ways[index] as Way
      return `| ${way} | ${token} | ${repeated} | ${note} |`.replaceAll('  ', ' ')
    }),
  ].join('\n')

test('has a token, is renewed and repeated as docs/requests.md says (IN-01, IN-03, IN-23)', async () => {
  world.site.setHeaders()
  const destinations = `['image', 'audio', 'video', 'track', 'font']`
  world.useWorker(`apis: [
    '${world.api.url}/', '/api/', { url: '${world.api.url}/listed', destinations: ${destinations} },
  ]`)
  const body = `
    const answer = async (url, port) => port.postMessage((await fetch(url)).status)
    onmessage = ({ data }) => answer(data, self)
    onconnect = ({ ports: [port] }) => { port.onmessage = ({ data }) => answer(data, port) }`
  world.site.addFile('/calls.js', { body })
  world.site.addFile('/calls.html', { body: '<p>frame</p>' })
  const page = await openSignedIn(world)

  /** What the API has got of a way, in this order. */
  const requestsOf = async ({ send, html, listed, own }: Way, name: string) => {
    const path = `/${listed ? 'listed' : 'me'}?way=${name}`
    const url = own ? `${world.site.origin}/api${path}` : world.api.url + path
    const api = own ? world.sameOriginApi : world.api
    const is = ({ query, method }: { query: string; method: string }) =>
      query === `way=${name}` && method !== 'OPTIONS'
    const done = send ? page.evaluate(send, url) : insert(page, (html ?? '').replace('URL', url))
    const failed = await done.then(
      () => false,
      () => true,
    )
    // What fails without having been sent never will be.
    if (failed && !api.requests.some(is)) return []
    await api.waitForRequest((each) => is(each) && each.status !== undefined, 20_000)
    return api.requests.filter(is)
  }

  const rowOf = async (way: Way, index: number): Promise<Row> => {
    const [first] = await requestsOf(way, `${index}`)
    const token = first?.authorization
    if (!first) return { token: 'fails', repeated: '' }
    if (token !== 'bearer') return { token: token === 'none' ? 'no' : 'its own', repeated: '' }
    world.as.expireAccessTokens()
    const answers = (await requestsOf(way, `${index}-again`)).map(({ status }) => status)
    expect(answers[0], way.way).toBe(401)
    const repeated = answers.length === 2 && answers[1] !== 401
    if (!repeated) await page.evaluate(() => window.auth.renew())
    return { token: '**yes**', repeated: repeated ? '**yes**' : 'no' }
  }

  const rows: Row[] = []
  for (const [index, way] of ways.entries()) rows.push(await rowOf(way, index))
  if (process.env['UPDATE_DOCS']) {
    const [before = '', rest = ''] = text().split(start)
    const [, after = ''] = rest.split(end)
    const marker = start.exec(text())?.[0] ?? ''
    writeFileSync(doc, `${before}${marker}${tableOf(rows)}\n${end}${after}`)
  }
  expect(readTable()).toBe(tableOf(rows))
})

test('an upload by XHR has no progress events, but those of its answer', async () => {
  const page = await openSignedIn(world)
  const seen = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const request = new XMLHttpRequest()
        let progress = 0
        request.upload.onprogress = () => {
          progress++
        }
        request.open('POST', url)
        request.onload = () => resolve({ progress, status: request.status })
        request.send(new Blob(['x'.repeat(20_000_000)]))
      }),
    `${world.api.url}/upload`,
  )
  expect(seen).toEqual({ progress: 0, status: 200 })
})
