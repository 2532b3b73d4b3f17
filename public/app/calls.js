// Calls to the API, as in any app: nothing in here knows of tokens.

const results = document.getElementById('results')
const mostResults = 6

/** Adds a line; the answer is a function that completes it. */
const addResult = (title) => {
  const line = document.createElement('li')
  const start = performance.now()
  line.append(title)
  results.prepend(line)
  while (results.children.length > mostResults) results.lastElementChild.remove()

  return (status, text) => {
    const ms = Math.round(performance.now() - start)
    const body = document.createElement('code')
    body.textContent = text
    line.dataset.status = status
    line.replaceChildren(`${title} → ${status}, ${ms} ms `, body)
  }
}

const call = async (url, init = {}) => {
  const done = addResult(`${init.method ?? 'GET'} ${new URL(url, location.href).pathname}`)
  try {
    const response = await fetch(url, init)
    done(response.status, await response.text())
  } catch (error) {
    done('failed', error.message)
  }
}

const stream = () => {
  const done = addResult('EventSource /stream')
  // Nobody can give an EventSource a header; the worker can.
  const source = new EventSource(`${env.api}stream?count=5&ms=300`)
  let events = 0
  source.onmessage = () => {
    events += 1
    done('open', `${events} of 5 events`)
    if (events < 5) return
    source.close()
    done(200, `${events} of 5 events`)
  }
  source.onerror = () => {
    source.close()
    done('failed', `after ${events} events`)
  }
}

const calls = {
  get: () => call(`${env.api}orders`),
  post: () =>
    call(`${env.api}orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ item: 'Tea', quantity: 3 }),
    }),
  five: () => {
    for (const id of [1, 2, 3, 1, 2]) call(`${env.api}orders/${id}`)
  },
  stream,
  me: () => call('/api/me'),
}

export const showCalls = () => {
  for (const button of document.querySelectorAll('[data-call]')) {
    button.addEventListener('click', calls[button.dataset.call])
  }
}
