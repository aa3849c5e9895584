// Messages about the form, next to the field that they name or above the button.
import {Unreachable} from './api.js';
import {$, h} from './dom.js';

const sentence = (text) =>
  text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');

// "fps: wanted 24, found 0" stands next to the field, whose name need not be repeated.
function withoutName({message, param}) {
  return sentence(message.startsWith(`${param}: `) ? message.slice(param.length + 2) : message);
}

export function showMessage(text) {
  $('message').textContent = text;
  $('message').hidden = text === '';
}

function fieldOf(param) {
  const [name] = (param ?? '').split('.');
  return [...document.querySelectorAll('[data-param]')].find((field) =>
    field.dataset.param.split(' ').includes(name),
  );
}

// A soft error, found while the user still types, moves no focus and needs a field.
export function showError(error, {isSoft = false} = {}) {
  const field = fieldOf(error.param);
  if (!field) {
    if (!isSoft) showMessage(sentence(error.message));
    return;
  }
  if (field.closest('details')) field.closest('details').open = true;
  field.querySelector('.error')?.remove();
  field.classList.add('wrong');
  const id = `error_${error.param}`;
  field.append(h('p', {class: 'error', id, role: 'alert'}, withoutName(error)));
  const control = $(error.param) ?? field.querySelector('input, textarea, select');
  control?.setAttribute('aria-invalid', 'true');
  control?.setAttribute('aria-describedby', id);
  if (!isSoft) control?.focus();
}

// Without a name, those of all fields.
export function clearErrors(name) {
  for (const field of document.querySelectorAll('.field.wrong')) {
    if (name && field !== fieldOf(name)) continue;
    field.classList.remove('wrong');
    field.querySelector('.error')?.remove();
    for (const control of field.querySelectorAll('[aria-invalid]')) {
      control.removeAttribute('aria-invalid');
      control.removeAttribute('aria-describedby');
    }
  }
  showMessage('');
}

// Why a video could not be created.
export function showFailure(error) {
  if (error instanceof Unreachable) {
    showMessage('The server does not answer. Your video is sent as soon as it is back.');
  } else if (error.code === 'shutting_down') {
    showMessage('The server is shutting down. Your video is sent as soon as it is back.');
  } else if (error.status === 429) {
    showMessage(
      `${sentence(error.message)}${error.retryAfter ? ` Try again in ${Math.ceil(error.retryAfter)} s.` : ''}`,
    );
  } else {
    showError(error);
  }
}
