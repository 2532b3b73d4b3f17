import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { endpointOf, segmentsRead } from '../../sw/http/server-path.js'
import { parseOptions } from '../../sw/options/parse-options.js'
import { createIntercept } from '../../sw/request/intercept.js'
import { workingOptions } from '../support/worker-parts.js'

const config = parseOptions(
  workingOptions({ apis: ['https://api.example/v1/api/', 'https://api.example:8443/', '/api/'] }),
  'https://app.example/',
)
const intercept = createIntercept({ config, endpoints: { includes: () => false } })

const ruleFor = (url: string) => {
  const request = {
    ...{ url, method: 'GET', mode: 'cors', destination: '', cache: 'default' },
    headers: new Headers(),
  }
  const found = intercept(request as unknown as Request, new URL(request.url))
  return found?.kind === 'api' ? found.rule : undefined
}

/** Thousands of URLs take long where eight test runs share two processors. */
const slow = { timeout: 30_000 }

/** What servers have been seen to do to a path, one thing at a time. */
const decodeOnce = (path: string) =>
  path.replace(/%([\da-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
const steps: ((path: string) => string)[] = [
  decodeOnce,
  (path) => path.replace(/%u([\da-f]{4})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))),
  // Bytes of UTF-8 as characters, each in any of its overlong forms.
  (path) =>
    path
      .replace(/[\xc0\xc1][\x80-\xbf]/g, (two) =>
        String.fromCharCode(((two.charCodeAt(0) & 1) << 6) | (two.charCodeAt(1) & 63)),
      )
      .replace(/\xe0[\x80\x81][\x80-\xbf]/g, (three) =>
        String.fromCharCode(((three.charCodeAt(1) & 1) << 6) | (three.charCodeAt(2) & 63)),
      ),
  (path) => new TextDecoder().decode(Uint8Array.from(path, (char) => char.charCodeAt(0) & 255)),
  // What is no text is dropped.
  (path) => path.replaceAll('\ufffd', ''),
  (path) => path.normalize('NFKC'),
  (path) => path.replaceAll('\\', '/'),
  (path) => path.replace(/;[^/]*/g, ''),
  (path) => path.replace(/[?#\0].*$/s, ''),
  (path) => path.replace(/\/[\s\0]+|[\s\0]+\//g, '/'),
  (path) => path.replace(/\/{2,}/g, '/'),
]

/** Dots resolved, as every server does in the end. */
const resolve = (path: string): string[] => {
  const out: string[] = []
  for (const segment of path.split('/').slice(1)) {
    if (segment === '..') out.pop()
    else if (segment !== '.') out.push(segment)
  }
  return out
}

const atoms = fc.constantFrom(
  ...['..', '.', '/', '\\', ';', ';x=1', 'a', 'admin', 'v1', 'api', ' ', '\t', '%', '%25', '2e'],
  ...['%2e', '%2E', '%252e', '%25252e', '%%32%65', '%2f', '%252f', '%%32%66', '%5c', '%255c'],
  ...[
    '%3b',
    '%253b',
    '%00',
    '%09',
    '%20',
    '%0a',
    '%3f',
    '%23',
    '?',
    '#',
    '．',
    '／',
    '‥',
    '%u002e',
  ],
  ...[
    '%c0%ae',
    '%c0%af',
    '%c1%9c',
    '%e0%80%ae',
    '%ef%bc%8e',
    '%ef%bc%8f',
    '%u002f',
    'é',
    '%E9',
    '%c3%a9',
    '%FF',
    '%A0',
  ],
)
const paths = fc.array(atoms, { maxLength: 12 }).map((parts) => parts.join(''))

describe('a path that an API covers', () => {
  test('is inside the API for every server that reads it, in any order (IN-01)', slow, () => {
    const orders = fc.array(fc.constantFrom(...steps), { maxLength: 8 })
    let matched = 0
    fc.assert(
      fc.property(paths, orders, (path, order) => {
        const url = new URL(`https://api.example/v1/api/${path}`)
        if (!ruleFor(url.href)) return
        matched++
        const read = order.reduce((text, step) => step(text), url.pathname)
        expect(resolve(read).slice(0, 2), JSON.stringify(read)).toEqual(['v1', 'api'])
      }),
      { numRuns: 3_000 },
    )
    expect(matched).toBeGreaterThan(300)
  })

  test('may have any text as one segment that has no segment of dots in it', slow, () => {
    const unit = fc.oneof(fc.constantFrom(...'ab./\\;?# é．'), fc.string({ unit: 'grapheme' }))
    const text = fc.array(unit, { maxLength: 8 }).map((units) => units.join(''))
    let matched = 0
    fc.assert(
      fc.property(text, text, (one, other) => {
        const pieces = `${one}/${other}`.normalize('NFKC').split(/[/\\]/)
        if (pieces.some((piece) => /%|^[\s\p{Cc}]*\./u.test(piece))) return
        const path = [one, other].map(encodeURIComponent).join('/')
        expect(ruleFor(`https://api.example/v1/api/${path}`)).toBeDefined()
        if (/%(2F|5C)/.test(path)) matched++
      }),
      { numRuns: 2_000 },
    )
    expect(matched).toBeGreaterThan(200)
  })

  test('is read as the most eager server reads it (IN-01)', () => {
    expect(segmentsRead('/a/b')).toEqual(['a', 'b'])
    expect(segmentsRead('/a//b/')).toEqual(['a', 'b'])
    expect(segmentsRead('/a;x=1/b%2Fc%255Cd')).toEqual(['a', 'b', 'c', 'd'])
    expect(segmentsRead('/a/b%20c/100%25')).toEqual(['a', 'b c', '100%'])
    expect(segmentsRead('/caf%E9.txt')).toEqual(['caf.txt'])
    expect(segmentsRead(`/a/%${'25'.repeat(3)}20b`)).toEqual(['a', ' b'])
    expect(segmentsRead(`/a/%${'25'.repeat(8)}20b`)).toBeUndefined()
    // It is asked for every request: no path may take long.
    expect(segmentsRead(`/a/%${'25'.repeat(100_000)}20`)).toBeUndefined()
  })
})

test('a URL of another origin than the API never gets a token (IN-01, IN-02)', slow, () => {
  const good = fc.constantFrom('https://', 'api.example', 'app.example', ':8443', '/', '/v1/api/')
  const bad = fc.constantFrom(
    ...['http://', 'https:', 'wss://', 'blob:', '//', 'evil.net', '.', '@', ':', ':443', '\\', '#'],
    ...[
      '?',
      '%2e',
      '%40',
      '%2f',
      'user',
      'аpi',
      'xn--',
      '。',
      '\t',
      '[::1]',
      '127.1',
      '-',
      '/api/',
    ],
  )
  const maybe = (part: fc.Arbitrary<string>) => fc.option(part, { nil: '', freq: 2 })
  const text = fc
    .tuple(maybe(bad), good, maybe(bad), good, maybe(bad), good, maybe(bad), good, maybe(bad))
    .map((parts) => parts.join(''))
  let matched = 0
  fc.assert(
    fc.property(text, (text) => {
      if (!URL.canParse(text, 'https://app.example/')) return
      const url = new URL(text, 'https://app.example/')
      const rule = ruleFor(url.href)
      if (!rule) return
      matched++
      // Written down anew from its parts, so that `origin` is not asked for once more.
      expect(`${url.protocol}//${url.hostname}${url.port && `:${url.port}`}`).toBe(rule.origin)
      expect(url.username + url.password).toBe('')
    }),
    { numRuns: 3_000 },
  )
  expect(matched).toBeGreaterThan(30)
})

describe('an endpoint', () => {
  test('has one name, however its URL is spelled (IN-07)', () => {
    for (const url of [
      'https://login.example/oauth/token',
      'https://LOGIN.example:443/oauth/token/?x#y',
      'https://login.example//oauth///Token',
      'https://login.example/oauth/%74oken;v=1',
      'https://login.example/x/..;/oauth/token',
      'https://login.example/x/%252e%252e/oauth%2ftoken',
      'https://login.example/oauth/ｔoken',
      'https://login.example/oauth/token%3fx',
      'https://login.example/oauth/token%ff',
    ]) {
      expect(endpointOf(new URL(url)), url).toBe('https://login.example/oauth/token')
    }
  })

  test('is not another one', () => {
    for (const url of [
      'https://login.example/oauth/tokens',
      'https://login.example/oauth/token/x',
      'https://login.example:8443/oauth/token',
      'http://login.example/oauth/token',
      'https://login.example.evil.net/oauth/token',
      'https://login.example/oauth/token%c0',
    ]) {
      expect(endpointOf(new URL(url)), url).not.toBe('https://login.example/oauth/token')
    }
  })

  test('can be asked for of any URL', () => {
    fc.assert(
      fc.property(paths, (path) => {
        expect(endpointOf(new URL(`https://x.example/${path}`))).toMatch(/^https:../)
      }),
      { numRuns: 1_000 },
    )
    for (const url of ['about:blank', 'data:text/plain,x', 'blob:https://x.example/0f3a']) {
      expect(endpointOf(new URL(url))).toBeTypeOf('string')
    }
  })
})
